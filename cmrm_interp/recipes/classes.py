"""States of harmful and of harmless anchors, for the recipes that are fitted on the two classes."""

from typing import Literal

from cmrm_interp.activations import Activations
from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError
from cmrm_interp.model import Model
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, both_classes, shown_anchors

STREAM = "blocks.*.hook_resid_post"
AnchorsAs = Literal["text", "image"]
# Of the states' own length: less is rounding.
_ROUNDING = 1e-5


def classes_of(anchors: AnchorPrompts, recipe: Recipe, shown: AnchorsAs) -> Anchors:
    """Anchors of both classes as a method is shown them: their texts alone, or with their images.

    Raises:
        InputError: no classes, a class without anchors, anchors without the images that are asked for, or another
            way to show them.
    """
    known = both_classes(anchors, recipe)
    if shown == "text":
        return known.without_images()
    if shown != "image":
        raise InputError(f"{type(recipe).__name__} has no anchors_as={shown!r}: use 'text' or 'image'")
    shown_anchors(known, recipe)
    return known


def states_of(
    model: Model, anchors: Anchors, hooks: str = STREAM, positions: str = "last"
) -> tuple[Activations, Activations]:
    """Activations of the harmful and of the harmless anchors at one position: ``n d_model`` a hook point."""
    harmful, harmless = (model.prepare(prompts) for prompts in (anchors.harmful, anchors.harmless))
    return model.capture(harmful, hooks, positions), model.capture(harmless, hooks, positions)


def paired(a: Activations, b: Activations) -> tuple[Activations, Activations]:
    """Rows in pairs, in the order given; the shorter of the two begins again from its first row, so that all count."""
    n = max(a.n_rows, b.n_rows)
    first, second = ([row % acts.n_rows for row in range(n)] for acts in (a, b))
    return a.rows(first), b.rows(second)


def check_apart(directions: Directions, states: Activations) -> Directions:
    """The directions from harmless to harmful states, if they are no rounding.

    Args:
        directions: one vector a hook point.
        states: of which they are differences.

    Raises:
        InputError: the classes have the same states at a hook point.
    """
    for hook, norm in directions.norms().items():
        size = float(states[hook].double().norm(dim=-1).mean())
        if float(norm) <= _ROUNDING * size:
            raise InputError(
                f"the direction at {hook!r} is zero (length {float(norm):.1e}, states have {size:.1e}): harmful and"
                " harmless anchors have the same states there; are they the same prompts?"
            )
    return directions


def layers_at(model: Model, first: float, last: float) -> tuple[int, ...]:
    """Layers from one share of the depth to before another, at least one: a paper's choice on another model."""
    start = min(round(first * model.n_layers), model.n_layers - 1)
    return tuple(range(start, max(round(last * model.n_layers), start + 1)))
