"""What an intervention is, as text, as far as it can be known: by which folders know their contents again."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
from torch.nn import Module

from cmrm_interp.axes import Tensor
from cmrm_interp.inputs import digest, digest_tensors


@dataclass(frozen=True)
class Signer:
    """Signs values; tensors that come again are hashed once.

    Attributes:
        known: hashes by identity, beside the tensors themselves so that no identity is used twice.
        inside: functions and objects that are being signed, which may refer to themselves.
    """

    known: dict[int, tuple[Tensor, str]] = field(default_factory=dict)
    inside: tuple[Any, ...] = ()

    def __call__(self, value: Any) -> str:
        """The signature: arrays by content, dataclasses by fields, functions by their code, others by ``repr``."""
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray):
            return self(value.tolist()) if value.dtype == object else _array(value)
        if isinstance(value, Mapping):
            return digest(part for name, item in value.items() for part in (repr(name), self(item)))
        if isinstance(value, list | tuple):
            return f"({', '.join(map(self, value))})"
        if is_dataclass(value) and not isinstance(value, type):
            return f"{type(value).__name__}({', '.join(self(getattr(value, f.name)) for f in fields(value))})"
        if isinstance(value, partial):
            return self((value.func, value.args, value.keywords))
        if isinstance(value, MethodType):
            return self((value.__func__, value.__self__))
        if isinstance(value, FunctionType):
            return self._function(value)
        return self._object(value)

    def _tensor(self, value: Tensor) -> str:
        if id(value) not in self.known:
            self.known[id(value)] = (value, digest_tensors({"": value.detach()}))
        return self.known[id(value)][1]

    def _function(self, value: FunctionType) -> str:
        if self._is_inside(value):
            return value.__qualname__
        # What it takes from its module by name is known by that name alone.
        closure = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        inner = self._within(value)([value.__defaults__, value.__kwdefaults__, *closure])
        return f"{value.__qualname__}:{digest([_code(value.__code__), inner])}"

    def _object(self, value: Any) -> str:
        # Where an object is in memory differs from run to run.
        name = type(value).__qualname__ if " at 0x" in repr(value) else repr(value)
        if isinstance(value, type | BuiltinFunctionType | Module):
            return str(getattr(value, "__qualname__", type(value).__qualname__))
        # Of a fitted estimator, say, the numbers; not the objects that it refers to, such as models.
        state = {k: v for k, v in sorted(getattr(value, "__dict__", {}).items()) if isinstance(v, _VALUES)}
        return name if not state or self._is_inside(value) else f"{name}{self._within(value)(state)}"

    def _is_inside(self, value: Any) -> bool:
        return any(value is other for other in self.inside)

    def _within(self, value: Any) -> "Signer":
        return Signer(self.known, (*self.inside, value))


# Attributes of an object that belong to what it is.
_VALUES = (str, bytes, int, float, np.ndarray, np.generic, Tensor, list, tuple)


def _array(value: np.ndarray) -> str:
    return digest([str(value.dtype), str(value.shape), value.tobytes()])


def _filled(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # of a name that is not bound yet
        return False
    return True


def _code(code: CodeType) -> str:
    """Hash of what a function does: its operations, the names that it uses, its constants, functions inside it."""
    return digest([code.co_code, repr(code.co_names), *map(_constant, code.co_consts)])


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _code(value)
    # The order of a set of strings differs from run to run.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
