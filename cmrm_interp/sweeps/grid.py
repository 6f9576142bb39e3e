"""The grid of a sweep: axes with names and values, and the cells of their product."""

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from cmrm_interp.errors import InputError
from cmrm_interp.records import Scalar

# Columns of a result's table.
RESERVED = ("metric", "value", "low", "high", "n", "clean", "change", "path", "p", "p_holm")


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        name: as the functions of a sweep name their parameters.
        labels: what tables and files say.
        values: what the functions are given.
    """

    name: str
    labels: tuple[Scalar, ...]
    values: tuple[Any, ...]

    @classmethod
    def of(cls, name: str, given: Any) -> "Axis":
        """An axis of values, or of a dict from labels to values.

        Raises:
            InputError: no values, one twice, or values that need labels.
        """
        if not name.isidentifier() or name in RESERVED:
            raise InputError(f"an axis cannot be called {name!r}: use a name that a function's parameter can have"
                             f" and that is no column of the table ({', '.join(RESERVED)})")  # fmt: skip
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise InputError(f"axis {name!r} is {given!r}: give a list of values, or a dict of labels and values")
        if isinstance(given, Mapping):
            labels, values = tuple(map(_scalar(name), given)), tuple(given.values())
        else:
            values = tuple(given)
            labels = values = tuple(map(_scalar(name), values))
        if not values:
            raise InputError(f"axis {name!r} has no values, so there is nothing to run: give it at least one")
        twice = [label for number, label in enumerate(labels) if label in labels[:number]]
        if twice:
            raise InputError(f"axis {name!r} has {twice[0]!r} twice: give each value once")
        return cls(name, labels, values)


@dataclass(frozen=True)
class Grid:
    """The product of some axes.

    Attributes:
        axes: the last one runs fastest.
    """

    axes: tuple[Axis, ...]

    @classmethod
    def of(cls, over: Mapping[str, Any]) -> "Grid":
        """A grid of named axes.

        Raises:
            InputError: no axes, or one that cannot be.
        """
        if not isinstance(over, Mapping) or not over:
            raise InputError(f"over={over!r}: give a dict with at least one axis, {{'layer': range(model.n_layers)}}")
        return cls(tuple(Axis.of(name, given) for name, given in over.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes."""
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values of each axis."""
        return tuple(len(axis.labels) for axis in self.axes)

    def indices(self) -> Iterator[tuple[int, ...]]:
        """The place of each cell on the axes."""
        return product(*map(range, self.shape))

    def labels(self, index: tuple[int, ...]) -> dict[str, Scalar]:
        """Labels of one cell, by axis."""
        return {axis.name: axis.labels[place] for axis, place in zip(self.axes, index, strict=True)}

    def values(self, index: tuple[int, ...]) -> dict[str, Any]:
        """Values of one cell, by axis."""
        return {axis.name: axis.values[place] for axis, place in zip(self.axes, index, strict=True)}

    def used_by(self, what: str, function: Callable[..., Any]) -> tuple[str, ...]:
        """Axes that a function asks for by the names of its parameters.

        Args:
            what: what the function is called in errors.
            function: of axis values.

        Raises:
            InputError: a parameter without a default that is no axis.
        """
        used = []
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                return self.names
            if parameter.name in self.names:
                used.append(parameter.name)
            elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
                raise InputError(
                    f"the {what} function asks for {parameter.name!r}, which is no axis: there are"
                    f" {', '.join(self.names)}"
                )
        return tuple(used)


def told(labels: Mapping[str, Scalar]) -> str:
    """A cell in words."""
    return ", ".join(f"{name}={label!r}" for name, label in labels.items())


def _scalar(name: str) -> Callable[[Any], Scalar]:
    def _plain(value: Any) -> Scalar:
        if value is None or isinstance(value, str | bool):
            return value
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real) and math.isfinite(value):
            return float(value)
        raise InputError(
            f"axis {name!r} holds {type(value).__name__} {str(value)[:40]!r}, which a table cannot name:"
            f" give a dict, {{'a label': value}}"
        )

    return _plain
