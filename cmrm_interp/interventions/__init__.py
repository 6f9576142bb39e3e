"""Interventions: frozen values, each a small function from an activation to a new activation.

An intervention says at which hook points and token positions it acts and what it does there. It never
touches the model: `Model.logits`, `Model.generate` and `Model.capture` apply a list of them, in the
order given at each hook point. With zero strength the result is bit-equal to no intervention.
"""

from cmrm_interp.interventions.base import Around, Chosen, Intervention, Step
from cmrm_interp.interventions.calibrated import CosineFrom, SubtractRelative
from cmrm_interp.interventions.gates import ByRow, CosineAbove, DotAbove, Gate, HasImage
from cmrm_interp.interventions.hook import Hook
from cmrm_interp.interventions.keeping_norm import AddKeepingNorm
from cmrm_interp.interventions.knockout import Knockout
from cmrm_interp.interventions.linear_map import AddLinearMap
from cmrm_interp.interventions.oriented import AddOriented, KeepNorm
from cmrm_interp.interventions.replacing import Ablate, Patch, Skip
from cmrm_interp.interventions.steering import Add, Clamp, ProjectOut, Subtract
from cmrm_interp.interventions.units import Units

__all__ = [
    "Ablate",
    "Add",
    "AddKeepingNorm",
    "AddLinearMap",
    "AddOriented",
    "Around",
    "ByRow",
    "Chosen",
    "Clamp",
    "CosineAbove",
    "CosineFrom",
    "DotAbove",
    "Gate",
    "HasImage",
    "Hook",
    "Intervention",
    "KeepNorm",
    "Knockout",
    "Patch",
    "ProjectOut",
    "Skip",
    "Step",
    "Subtract",
    "SubtractRelative",
    "Units",
]
