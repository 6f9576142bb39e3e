"""Metrics of activations: what a probe or a direction reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Tensor
from cmrm_interp.metrics.base import Metric, Needs, Seen


@dataclass(frozen=True)
class ProbeScore(Metric):
    """See `probe_score`.

    Attributes:
        probe: from ``n d_model`` to ``n``.
        hook: hook point at whose last prompt token it reads.
        name: for tables.
    """

    probe: Callable[[Any], Any]
    hook: str
    name: str = "probe_score"

    @property
    def needs(self) -> Needs:
        """The activation."""
        return Needs(hooks=(self.hook,))

    def measure(self, seen: Seen) -> Tensor:
        """What the probe returns."""
        return torch.as_tensor(self.probe(seen.activations[self.hook].float()))


def probe_score(probe: Callable[[Any], Any], hook: str) -> ProbeScore:
    """What a probe reads at the last prompt token of a hook point, after the interventions.

    Args:
        probe: any function from ``n d_model`` (fp32, on the CPU) to ``n``: a probe's ``score``, a scikit-learn
            ``decision_function``, ``lambda x: x @ direction``.
        hook: hook point of the decoder, or a pattern for one (``"blocks.-1.hook_resid_post"``).
    """
    return ProbeScore(probe, hook)
