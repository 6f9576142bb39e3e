"""Published methods as short recipes over the primitives, one file each."""

from cmrm_interp.recipes.adashield import AdaShield
from cmrm_interp.recipes.anchors import own_anchors, refuse_anchors
from cmrm_interp.recipes.base import Recipe, found
from cmrm_interp.recipes.card import RECIPES, Card, registered
from cmrm_interp.recipes.cast import CAST
from cmrm_interp.recipes.cmrm import CMRM
from cmrm_interp.recipes.coca import CoCA
from cmrm_interp.recipes.controls import CaptionInstead, OtherModel, TextOnly
from cmrm_interp.recipes.inferaligner import InferAligner
from cmrm_interp.recipes.refusal_direction import RefusalDirection
from cmrm_interp.recipes.repe import RepE
from cmrm_interp.recipes.vlm_guard import VLMGuard

__all__ = [
    "CAST",
    "CMRM",
    "RECIPES",
    "AdaShield",
    "CaptionInstead",
    "Card",
    "CoCA",
    "InferAligner",
    "OtherModel",
    "Recipe",
    "RefusalDirection",
    "RepE",
    "TextOnly",
    "VLMGuard",
    "found",
    "own_anchors",
    "refuse_anchors",
    "registered",
]
