"""Families of models: where the hook points are, and how a checkpoint is loaded."""

from cmrm_interp.families.maps import BlockMap, FamilyMap, Gate, Point, QFormerMap, VisionBlockMap, VisionMap
from cmrm_interp.families.registry import families, family_of, register, unregister
from cmrm_interp.families.tiny import TINY, tiny

__all__ = [
    "TINY",
    "BlockMap",
    "FamilyMap",
    "Gate",
    "Point",
    "QFormerMap",
    "VisionBlockMap",
    "VisionMap",
    "families",
    "family_of",
    "register",
    "tiny",
    "unregister",
]
