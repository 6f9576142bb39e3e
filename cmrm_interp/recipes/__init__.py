"""Published methods as short recipes over the primitives, one file each."""

from cmrm_interp.recipes.anchors import own_anchors, refuse_anchors
from cmrm_interp.recipes.base import Recipe, found
from cmrm_interp.recipes.card import RECIPES, Card, registered
from cmrm_interp.recipes.cmrm import CMRM
from cmrm_interp.recipes.controls import CaptionInstead, OtherModel, TextOnly

__all__ = [
    "CMRM",
    "RECIPES",
    "CaptionInstead",
    "Card",
    "OtherModel",
    "Recipe",
    "TextOnly",
    "found",
    "own_anchors",
    "refuse_anchors",
    "registered",
]
