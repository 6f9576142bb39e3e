"""Families of models: where the hook points are, and how a checkpoint is loaded."""

from cmrm_interp.families.maps import BlockMap, FamilyMap, Point, VisionMap
from cmrm_interp.families.registry import families, family_of, register
from cmrm_interp.families.tiny import tiny

__all__ = ["BlockMap", "FamilyMap", "Point", "VisionMap", "families", "family_of", "register", "tiny"]
