"""Candidates: a recipe with every combination of some settings, fitted as rarely as can be."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cmrm_interp.errors import InputError
from cmrm_interp.model import Model
from cmrm_interp.recipes import Recipe
from cmrm_interp.recipes.base import AnchorPrompts
from cmrm_interp.records import Scalar
from cmrm_interp.sweeps.grid import Grid


@dataclass(frozen=True, eq=False)
class Candidate:
    """A fitted recipe with some settings.

    Attributes:
        labels: its settings, as tables say them.
        recipe: fitted.
    """

    labels: Mapping[str, Scalar]
    recipe: Recipe

    @property
    def name(self) -> str:
        """The settings in words."""
        return ", ".join(f"{name}={label}" for name, label in self.labels.items())

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that JSON can hold; a picture is none."""
        given = {name: _plain(getattr(self.recipe, name)) for name in self.labels}
        return {name: value for name, value in given.items() if value is not _NO_JSON}


def grid_of(over: Mapping[str, Any]) -> Grid:
    """The grid of settings; values that are lists (layers) are called by what they hold.

    Raises:
        InputError: no settings, no values, or one twice.
    """
    if not isinstance(over, Mapping):
        return Grid.of(over)
    return Grid.of({name: _labelled(values) for name, values in over.items()})


def candidates(model: Model, recipe: Recipe, grid: Grid, anchors: AnchorPrompts = ()) -> list[Candidate]:
    """Every candidate of a grid, in its order.

    A fit is shared by all candidates that differ in nothing but settings that it does not read (`Recipe.applied`).

    Args:
        model: on which they are fitted.
        recipe: fitted, or not.
        grid: of its settings.
        anchors: to fit on; not needed for a fitted recipe where the grid holds no setting that the fit reads.

    Raises:
        InputError: a setting that the recipe does not have or refuses, or a fit that is needed, without anchors.
        MismatchError: the recipe was fitted on another model.
    """
    _check_names(recipe, grid)
    reads = [name for name in grid.names if name not in recipe.applied]
    if not anchors and recipe.model is not None and reads:
        raise InputError(
            f"what fit finds depends on {reads[0]}: give anchors=... (the prompts to fit on), so that each"
            f" {reads[0]} is fitted"
        )
    fitted: dict[tuple[Scalar, ...], Recipe] = {}
    found = []
    for index in grid.indices():
        labels, values = grid.labels(index), grid.values(index)
        key = tuple(labels[name] for name in reads)
        if key not in fitted:
            own = replace(recipe, **{name: values[name] for name in reads})  # type: ignore[type-var]
            fitted[key] = own.fit(model, anchors) if anchors or own.model is None else own
            fitted[key].check_model(model)
        others = {name: values[name] for name in grid.names if name not in reads}
        found.append(Candidate(labels, replace(fitted[key], **others)))  # type: ignore[type-var]
    return found


def _check_names(recipe: Recipe, grid: Grid) -> None:
    known = recipe.settings()
    for name in grid.names:
        if name not in known:
            raise InputError(f"{type(recipe).__name__} has no setting {name!r} to choose: there are {', '.join(known)}")


def _labelled(values: Any) -> Any:
    if isinstance(values, Mapping | str) or not isinstance(values, Iterable):
        return values
    values = [tuple(value) if isinstance(value, list | range) else value for value in values]
    lists = any(isinstance(value, tuple) for value in values)
    if not lists:
        return values
    labels = [_list(value) if isinstance(value, tuple) else value for value in values]
    twice = [label for number, label in enumerate(labels) if label in labels[:number]]
    # As a dict they would become one without a word.
    return values if twice else dict(zip(labels, values, strict=True))


def _list(value: tuple[Any, ...]) -> str:
    first, last = value[0] if value else None, value[-1] if value else None
    if len(value) > 2 and value == tuple(range(first, last + 1)):  # type: ignore[arg-type,operator]
        return f"{first}-{last}"
    return " ".join(map(str, value)) or "none"


_NO_JSON = object()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        parts = [_plain(part) for part in value]
        return _NO_JSON if _NO_JSON in parts else parts
    return value if value is None or isinstance(value, str | int | float | bool) else _NO_JSON
