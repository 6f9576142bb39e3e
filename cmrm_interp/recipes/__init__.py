"""Published methods as short recipes over the primitives, one file each."""

from cmrm_interp.recipes.adashield import AdaShield
from cmrm_interp.recipes.alphasteer import AlphaSteer
from cmrm_interp.recipes.anchors import own_anchors, refuse_anchors
from cmrm_interp.recipes.astra import ASTRA
from cmrm_interp.recipes.base import Recipe, found
from cmrm_interp.recipes.card import RECIPES, Card, registered
from cmrm_interp.recipes.cast import CAST
from cmrm_interp.recipes.cmrm import CMRM
from cmrm_interp.recipes.coca import CoCA
from cmrm_interp.recipes.controls import CaptionInstead, OtherModel, TextOnly
from cmrm_interp.recipes.ecso import ECSO
from cmrm_interp.recipes.eta import ETA
from cmrm_interp.recipes.finetuned import FineTuned
from cmrm_interp.recipes.gated_shift import GatedShift
from cmrm_interp.recipes.inferaligner import InferAligner
from cmrm_interp.recipes.iti import ITI
from cmrm_interp.recipes.nullsteer import NullSteer
from cmrm_interp.recipes.refusal_direction import RefusalDirection
from cmrm_interp.recipes.regap import ReGap
from cmrm_interp.recipes.repe import RepE
from cmrm_interp.recipes.safedecoding import SafeDecoding
from cmrm_interp.recipes.shiftdc import ShiftDC
from cmrm_interp.recipes.tbop import TBOP
from cmrm_interp.recipes.vlm_guard import VLMGuard
from cmrm_interp.recipes.vti import VTI

__all__ = [
    "ASTRA",
    "CAST",
    "CMRM",
    "ECSO",
    "ETA",
    "ITI",
    "RECIPES",
    "TBOP",
    "VTI",
    "AdaShield",
    "AlphaSteer",
    "CaptionInstead",
    "Card",
    "CoCA",
    "FineTuned",
    "GatedShift",
    "InferAligner",
    "NullSteer",
    "OtherModel",
    "ReGap",
    "Recipe",
    "RefusalDirection",
    "RepE",
    "SafeDecoding",
    "ShiftDC",
    "TextOnly",
    "VLMGuard",
    "found",
    "own_anchors",
    "refuse_anchors",
    "registered",
]
