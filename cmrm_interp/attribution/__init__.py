"""Direct logit attribution: what each part of a model adds to a logit."""

from cmrm_interp.attribution.direct import direct_logit_attribution
from cmrm_interp.attribution.result import Attribution, Part

__all__ = ["Attribution", "Part", "direct_logit_attribution"]
