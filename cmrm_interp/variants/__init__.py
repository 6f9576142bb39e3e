"""Many lists of interventions on the same prompts, with what they have in common computed once."""

from cmrm_interp.variants.base import Outcome, Wants
from cmrm_interp.variants.reach import why_not
from cmrm_interp.variants.run import run_variants

__all__ = ["Outcome", "Wants", "run_variants", "why_not"]
