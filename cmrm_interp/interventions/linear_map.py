"""Adding a linear map of the activation itself."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import InputError
from cmrm_interp.hooks import expand
from cmrm_interp.interventions.base import Chosen, Intervention, at_layers, check_shape, freeze_layers
from cmrm_interp.positions import Position, check_position


@dataclass(frozen=True, eq=False)
class AddLinearMap(Intervention):
    """Add ``alpha`` times a linear map of each token's own activation (AlphaSteer, arXiv 2506.07022).

    Attributes:
        maps: hook point to a matrix ``M``, ``d_model d_model``.
        alpha: strength; 0 changes nothing.
        positions: tokens that are edited.
        layers: layers at which it acts (negative ones count from the last); None for all that the maps have.
    """

    maps: Mapping[str, Tensor]
    alpha: float = 1.0
    positions: Position = "last"
    layers: int | Iterable[int] | None = None

    def __post_init__(self) -> None:
        """Refuse strengths, positions, layers and maps that mean nothing."""
        if not math.isfinite(self.alpha):
            raise InputError(f"alpha is {self.alpha}: give a finite number")
        check_position(self.positions)
        freeze_layers(self)
        if not self.maps:
            raise InputError("AddLinearMap needs at least one map: {'blocks.3.hook_resid_pre': M}")
        for name, tensor in self.maps.items():
            if tensor.ndim != 2 or tensor.shape[0] != tensor.shape[1]:
                raise InputError(f"the map at {name!r} has shape {tuple(tensor.shape)}: give d_model x d_model")
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"the map at {name!r} has NaN or infinite entries")

    def targets(self, names: Sequence[str]) -> list[str]:
        """Hook points of the maps, at the chosen layers."""
        return at_layers(expand(list(self.maps), names), self.layers, names)

    def edit(self, x: Float[Tensor, "n d_model"], chosen: Chosen) -> Float[Tensor, "n d_model"]:
        """``x + alpha * M x``."""

        def _find() -> Tensor:
            tensor = self.maps[chosen.hook]
            check_shape(tensor.shape[-1:], x.shape[1:], chosen.hook)
            return tensor.to(x.device, torch.promote_types(tensor.dtype, x.dtype))

        matrix = chosen.once(("map", id(self.maps), chosen.hook, x.device, x.dtype), _find)
        wide = x.to(matrix.dtype)
        return wide + self.alpha * (wide @ matrix.T)
