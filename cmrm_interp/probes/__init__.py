"""Probing classifiers: what a linear readout finds in activations, how sure it is, and a direction and gate from it."""

from cmrm_interp.probes.crossval import probe
from cmrm_interp.probes.fitted import Probe, ProbeAbove
from cmrm_interp.probes.result import ProbeResult
from cmrm_interp.probes.settings import ProbeSettings
from cmrm_interp.probes.transfer import probe_transfer
from cmrm_interp.probes.transfer_result import TransferResult

__all__ = ["Probe", "ProbeAbove", "ProbeResult", "ProbeSettings", "TransferResult", "probe", "probe_transfer"]
