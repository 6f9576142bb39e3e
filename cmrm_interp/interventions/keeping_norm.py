"""Adding a direction without changing how long the activation is."""

from dataclasses import dataclass

from torch.nn.functional import normalize

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.interventions.base import Chosen
from cmrm_interp.interventions.steering import Add


@dataclass(frozen=True)
class AddKeepingNorm(Add):
    """Turn activations towards a direction and keep their norm (VTI, arXiv 2410.15778); see `Add`.

    ``x <- ||x|| * u / ||u||`` with ``u = x / ||x|| + alpha * v``: here `alpha` counts in units of the activation's own
    norm, and a direction is given at the length that it is to have beside an activation of length one.
    """

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """``x`` turned; ``x`` itself where alpha is 0, which dividing by the norm would not give to the bit."""
        if self.alpha == 0:
            return x
        moved = super().edit(normalize(x.float() if x.itemsize < 4 else x, dim=-1), chosen)
        return normalize(moved, dim=-1) * x.to(moved.dtype).norm(dim=-1, keepdim=True)
