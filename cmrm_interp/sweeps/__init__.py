"""Sweeps over grids of interventions, and ablations; tables, tests and pictures of what comes of them."""

from cmrm_interp.sweeps.ablation import ablation_sweep
from cmrm_interp.sweeps.result import SweepResult
from cmrm_interp.sweeps.sweeping import sweep

__all__ = ["SweepResult", "ablation_sweep", "sweep"]
