"""Published methods as short recipes over the primitives, one file each."""

from cmrm_interp.recipes.base import Recipe
from cmrm_interp.recipes.cmrm import CMRM

__all__ = ["CMRM", "Recipe"]
