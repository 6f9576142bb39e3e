"""What a recipe says of itself, and the registry of all recipes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from cmrm_interp.errors import InputError

if TYPE_CHECKING:
    from cmrm_interp.recipes.base import Recipe

R = TypeVar("R", bound="type[Recipe]")

RECIPES: "dict[str, type[Recipe]]" = {}
"""Recipes by the name that specs, tables and the command line call them."""

Wants = Literal["none", "any", "both"]


@dataclass(frozen=True)
class Card:
    """What a recipe says of itself.

    Attributes:
        name: in specs (``shiftdc:alpha=1``): lower case, words joined by hyphens.
        title: in tables and figures.
        paper: short title or authors, venue and year; "" for a control.
        arxiv: number, or "".
        claim: what the method does, in one line.
        wants: anchors that its fit needs: ``none``, ``any`` prompts, or ``both`` classes (`cmrm_interp.Anchors`).
        needs_images: whether it means nothing for a model without a vision side.
        strength: the setting that at 0 leaves the model as it is; "" where there is none.
        sure: how sure the formula is, in a line: read in the source, second-hand, ours.
    """

    name: str
    title: str
    paper: str
    arxiv: str
    claim: str
    wants: Wants = "both"
    needs_images: bool = True
    strength: str = "alpha"
    sure: str = ""


def registered(card: Card) -> Callable[[R], R]:
    """Adds a recipe to `RECIPES`: ``@registered(Card(...))`` over its class.

    A registered recipe can be named in ``cmrm eval`` and ``cmrm compare``, stands in the tables of the documentation,
    and is held to the laws of `cmrm_interp.recipes.laws` by the tests.

    Raises:
        InputError: the name is taken, or is no name of a recipe.
    """
    if not card.name or any(not (sign.isalnum() or sign == "-") or sign.isupper() for sign in card.name):
        raise InputError(f"{card.name!r} is no name of a recipe: lower case, words joined by hyphens")

    def _add(recipe: R) -> R:
        there = RECIPES.get(card.name)
        # A cell that is run again defines the same class again.
        if there is not None and (there.__module__, there.__qualname__) != (recipe.__module__, recipe.__qualname__):
            raise InputError(f"the recipe {card.name!r} is registered already: choose another name")
        recipe.card = card
        RECIPES[card.name] = recipe
        return recipe

    return _add
