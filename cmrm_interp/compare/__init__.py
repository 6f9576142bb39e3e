"""Every defence side by side: chosen alike, measured alike, one table."""

from cmrm_interp.compare.comparing import compare
from cmrm_interp.compare.comparison import Comparison

__all__ = ["Comparison", "compare"]
