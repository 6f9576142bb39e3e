"""The model organism: a small vision-language model, trained from nothing, which any image makes unsafe."""

from cmrm_interp.organism.training import train

__all__ = ["train"]
