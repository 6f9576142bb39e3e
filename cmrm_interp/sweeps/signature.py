"""What an intervention is, as text, as far as it can be known: by which a stored sweep knows its cells again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from types import CellType, FunctionType
from typing import Any

from cmrm_interp.axes import Tensor
from cmrm_interp.inputs import digest, digest_tensors


@dataclass(frozen=True)
class Signer:
    """Signs values; tensors that come again are hashed once.

    Attributes:
        known: hashes by identity, beside the tensors themselves so that no identity is used twice.
        inside: functions whose closures are being signed.
    """

    known: dict[int, tuple[Tensor, str]] = field(default_factory=dict)
    inside: tuple[FunctionType, ...] = ()

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
        if callable(value):
            return self._function(value)
        # Where an object is in memory differs from run to run.
        return type(value).__qualname__ if " at 0x" in repr(value) else repr(value)

    def _tensor(self, value: Tensor) -> str:
        if id(value) not in self.known:
            self.known[id(value)] = (value, digest_tensors({"": value.detach()}))
        return self.known[id(value)][1]

    def _function(self, value: Callable[..., Any]) -> str:
        if isinstance(value, partial):
            return self((value.func, value.args, value.keywords))
        if not isinstance(value, FunctionType) or value in self.inside:
            return getattr(value, "__qualname__", type(value).__qualname__)
        # What it takes from its module by name, and from objects that are no values, cannot be known.
        code, closure = value.__code__, [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        inner = Signer(self.known, (*self.inside, value))
        text = repr(_plain(code.co_consts))
        return f"{value.__qualname__}:{digest([code.co_code, text, inner([value.__defaults__, *closure])])}"


def _filled(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # of a name that is not bound yet
        return False
    return True


def _plain(constants: tuple[Any, ...]) -> list[Any]:
    return [c for c in constants if c is None or isinstance(c, str | int | float | bytes | tuple)]
