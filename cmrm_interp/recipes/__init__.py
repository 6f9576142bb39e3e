"""Published methods as short recipes over the primitives, one file each."""

from cmrm_interp.recipes.base import Recipe
from cmrm_interp.recipes.cmrm import CMRM
from cmrm_interp.recipes.controls import CaptionInstead, OtherModel

__all__ = ["CMRM", "CaptionInstead", "OtherModel", "Recipe"]
