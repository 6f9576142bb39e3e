"""What an intervention is, as text, as far as it can be known: by which a stored sweep knows its cells again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any

from cmrm_interp.axes import Tensor
from cmrm_interp.inputs import digest, digest_tensors


@dataclass(frozen=True)
class Signer:
    """Signs values; tensors that come again are hashed once.

    Attributes:
        known: hashes by identity, beside the tensors themselves so that no identity is used twice.
    """

    known: dict[int, tuple[Tensor, str]] = field(default_factory=dict)

    def __call__(self, value: Any) -> str:
        """The signature: tensors by content, dataclasses by fields, functions by their code, others by ``repr``."""
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, Mapping):
            return digest(part for name, item in value.items() for part in (repr(name), self(item)))
        if isinstance(value, list | tuple):
            return f"({', '.join(map(self, value))})"
        if is_dataclass(value) and not isinstance(value, type):
            return f"{type(value).__name__}({', '.join(self(getattr(value, f.name)) for f in fields(value))})"
        return self._function(value) if callable(value) else repr(value)

    def _tensor(self, value: Tensor) -> str:
        if id(value) not in self.known:
            self.known[id(value)] = (value, digest_tensors({"": value.detach()}))
        return self.known[id(value)][1]

    def _function(self, value: Callable[..., Any]) -> str:
        # Another value with the same code (a number in a closure) cannot be told apart from here.
        if isinstance(value, partial):
            return self((value.func, value.args, value.keywords))
        code = getattr(value, "__code__", None)
        name = getattr(value, "__qualname__", type(value).__qualname__)
        return name if code is None else f"{name}:{digest([code.co_code, repr(_plain(code.co_consts))])}"


def _plain(constants: tuple[Any, ...]) -> list[Any]:
    return [c for c in constants if c is None or isinstance(c, str | int | float | bytes | tuple)]
