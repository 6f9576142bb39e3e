"""Positions as plain data, for the headers of files, and back."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from cmrm_interp.errors import StoreError
from cmrm_interp.positions.base import Both, Either, Not, Selector
from cmrm_interp.positions.kinds import Chars, Custom, Find, Index, Named, New, OfVocabulary, OneImage, Stretch
from cmrm_interp.positions.names import Position, as_selector, simple

_KINDS: dict[str, type[Selector]] = {
    kind.__name__: kind for kind in (Both, Chars, Either, Find, Index, Named, New, Not, OfVocabulary, OneImage, Stretch)
}


def to_data(position: Position) -> Any:
    """A position as JSON can hold it: a name or a number as it is, a slice as a list of two, others as a table.

    Raises:
        StoreError: a function, which no file can hold.
    """
    plain = simple(position)
    if isinstance(plain, slice):
        return [plain.start, plain.stop]
    return plain if isinstance(plain, str | int) else _table(as_selector(plain))


def from_data(data: Any) -> Position:
    """The position that `to_data` wrote.

    Raises:
        StoreError: data of another kind.
    """
    if isinstance(data, list):
        return slice(*data)
    return data if isinstance(data, str | int) else _selector(data)


def _table(selector: Selector) -> dict[str, Any]:
    if isinstance(selector, Custom) or not is_dataclass(selector):
        raise StoreError(f"position {selector!r} is a function, which a file cannot hold: use the other positions")
    values = {field.name: _plain(getattr(selector, field.name)) for field in fields(selector)}
    return {"kind": type(selector).__name__, **values}


def _plain(value: Any) -> Any:
    if isinstance(value, Selector):
        return _table(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _selector(table: Any) -> Selector:
    kind = _KINDS.get(table.get("kind", "")) if isinstance(table, dict) else None
    if kind is None:
        raise StoreError(f"no position that this version knows: {table!r}")
    values = {name: _value(value) for name, value in table.items() if name != "kind"}
    make: Callable[..., Selector] = kind
    return make(**values)


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return _selector(value)
    return tuple(_value(item) for item in value) if isinstance(value, list) else value
