"""Patching: activations of one run put into another, where both see their images.

`activation_patching` runs every cell of a grid, `attribution_patching` estimates all of them from one backward pass
(`agreement` tells how well), `path_patching` follows what single heads say to others. `align` says which tokens of two
runs belong together.
"""

from cmrm_interp.patching.activation import activation_patching
from cmrm_interp.patching.agreement import Agreement, agreement
from cmrm_interp.patching.alignment import Alignment, align
from cmrm_interp.patching.attribution import attribution_patching
from cmrm_interp.patching.grids import UNITS, Grid
from cmrm_interp.patching.patches import PatchFrom
from cmrm_interp.patching.paths import Route, path_patching
from cmrm_interp.patching.results import PatchingResult
from cmrm_interp.patching.spans import SPANS

__all__ = [
    "SPANS",
    "UNITS",
    "Agreement",
    "Alignment",
    "Grid",
    "PatchFrom",
    "PatchingResult",
    "Route",
    "activation_patching",
    "agreement",
    "align",
    "attribution_patching",
    "path_patching",
]
