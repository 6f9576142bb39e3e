"""Lenses: what the stream would say if the model ended here, by layer, at text and at image tokens."""

from cmrm_interp.lens.reading import logit_lens
from cmrm_interp.lens.result import LensResult
from cmrm_interp.lens.tuned import TunedLens

__all__ = ["LensResult", "TunedLens", "logit_lens"]
