"""Additions that look at the state first, and edits that keep its length (RepE, arXiv 2310.01405)."""

from dataclasses import dataclass

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.interventions.base import Around, Chosen, Intervention
from cmrm_interp.interventions.steering import Add


@dataclass(frozen=True)
class AddOriented(Add):
    """Add ``alpha`` times a direction, turned to the side that each token is on already; see `Add`.

    RepE's ``piecewise_linear`` operator: with alpha above 0 what is there is strengthened, below 0 it is weakened.
    """

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """``x + alpha * sign(x . v) * v``."""
        step = super().edit(torch.zeros_like(x), chosen)
        wide = x.to(step.dtype)
        # The step is alpha times the direction, and the side is about the direction alone.
        side = torch.sign((wide * step).sum(-1, keepdim=True)) * (1 if self.alpha > 0 else -1)
        return wide + side * step


@dataclass(frozen=True)
class KeepNorm(Around):
    """Apply an intervention, and bring each token back to the length that it had.

    Attributes:
        intervention: what is applied.
    """

    intervention: Intervention

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """``e |x| / |e|`` with ``e`` the inner edit; one of length zero stays."""
        edited = self.intervention.edit(x, chosen)
        before, after = (part.to(edited.dtype).norm(dim=-1, keepdim=True) for part in (x, edited))
        return edited * torch.where(after > 0, before / after, 1.0)
