"""Views: how the value at a module becomes a TransformerLens-shaped activation, and goes back.

A view reads an activation out of what a module was given or returned, and writes a changed one back
in a way that has the effect which the name promises. Writes that cannot replace the value itself add
the change (``new - old``), so that an unchanged activation leaves the model bit-equal.
"""

from cmrm_interp.families.views.attention import AttentionCall, Pattern, Result, Scores
from cmrm_interp.families.views.base import Both, Frame, View
from cmrm_interp.families.views.norms import Norm, Normalized, Scale
from cmrm_interp.families.views.router import Router
from cmrm_interp.families.views.shapes import (
    AS_IS,
    AsIs,
    ByPrompt,
    Flat,
    Grid,
    Loose,
    Packed,
    Placed,
    Pooled,
    Shape,
    Tiles,
    Windows,
)
from cmrm_interp.families.views.stream import Columns, Heads, Middle, Nothing, Rest, Scaled, Whole

__all__ = [
    "AS_IS",
    "AsIs",
    "AttentionCall",
    "Both",
    "ByPrompt",
    "Columns",
    "Flat",
    "Frame",
    "Grid",
    "Heads",
    "Loose",
    "Middle",
    "Norm",
    "Normalized",
    "Nothing",
    "Packed",
    "Pattern",
    "Placed",
    "Pooled",
    "Rest",
    "Result",
    "Router",
    "Scale",
    "Scaled",
    "Scores",
    "Shape",
    "Tiles",
    "View",
    "Whole",
    "Windows",
]
