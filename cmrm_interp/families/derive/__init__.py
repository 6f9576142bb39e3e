"""A map for a model of no registered family, from Hugging Face's conventions and one recorded forward pass."""

from cmrm_interp.families.derive.family import derive, guesses

__all__ = ["derive", "guesses"]
