"""The type checker that runs while tests do: beartype, which by itself refuses ``Self`` in a method's signature."""

from typing import Any, Self, TypeVar

from beartype import beartype

F = TypeVar("F")


def check(decorated: F) -> F:
    """Decorates a function or class with beartype; a bare ``Self`` is not checked."""
    hints = getattr(decorated, "__annotations__", {})
    for name, hint in hints.items():
        if hint is Self:
            hints[name] = Any
    return beartype(decorated)
