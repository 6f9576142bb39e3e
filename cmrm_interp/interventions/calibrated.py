"""Steering as far as the activation itself is long, and as much as it points along a direction from an origin."""

from dataclasses import dataclass

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.directions import Directions, basis
from cmrm_interp.interventions.base import Chosen
from cmrm_interp.interventions.steering import Subtract


@dataclass(frozen=True)
class SubtractRelative(Subtract):
    """Subtract ``alpha`` times the activation's own norm along a direction, whose length does not matter.

    Attributes:
        directions, alpha, positions, layers: as in `Add`; alpha 1 takes away as much as the activation is long.
    """

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """``x - alpha * |x| * v / |v|``."""
        unit = _unit(self.directions, x, chosen)
        wide = x.to(torch.promote_types(x.dtype, unit.dtype))
        return wide - self.alpha * wide.norm(dim=-1, keepdim=True) * unit


@dataclass(frozen=True)
class CosineFrom:
    """Condition: the cosine with a direction, seen from an origin, as a weight from 0 to 1 (ASTRA, arXiv 2411.16721).

    Attributes:
        directions: one vector at each hook point of the gated intervention.
        origin: the activation that is in no direction, at the same hook points.
    """

    directions: Directions
    origin: Directions

    def __call__(self, x: Float[Tensor, "n d_model"], chosen: Chosen) -> Float[Tensor, " n"]:
        """``clamp(cos(x - origin, v), 0, 1)``."""
        unit = _unit(self.directions, x, chosen)
        away = x.float() - self.origin[chosen.hook].to(x.device).float()
        return torch.nn.functional.cosine_similarity(away, unit.float(), dim=-1).clamp(0, 1)


def _unit(directions: Directions, x: Tensor, chosen: Chosen) -> Float[Tensor, " d_model"]:
    def _find() -> Tensor:
        vector = directions[chosen.hook]
        # Refuses what is no single vector with a length; a basis may point the other way.
        (unit,) = basis(vector, chosen.hook)
        return (unit * torch.sign(vector.to(unit) @ unit)).to(x.device, torch.float32)

    return chosen.once(("unit", id(directions), chosen.hook, x.device), _find)
