"""Attention: how much of it goes to the image, by layer and head, and what happens where it is cut."""

from cmrm_interp.attention.onto import AttentionMap, attention_map
from cmrm_interp.attention.share import AttentionShare, attention_to
from cmrm_interp.attention.windows import knockout_sweep

__all__ = ["AttentionMap", "AttentionShare", "attention_map", "attention_to", "knockout_sweep"]
