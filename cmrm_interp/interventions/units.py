"""Units: an intervention on some heads or neurons alone."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.interventions.base import Around, Chosen, Intervention


@dataclass(frozen=True)
class Units(Around):
    """Apply an intervention and keep what it changes of some units only: heads, or neurons.

    Units lie along the axis behind the positions: heads of ``hook_z``, ``hook_result``, ``hook_q``, ``hook_k``,
    ``hook_v`` and ``hook_pattern``, neurons of ``mlp.hook_post``.

    Attributes:
        intervention: what is applied, for example ``Ablate("blocks.3.attn.hook_z")``.
        units: numbers of heads or neurons; negative ones count from the last.
    """

    intervention: Intervention
    units: int | Iterable[int]

    def __post_init__(self) -> None:
        """Keep the units as they are now; refuse none."""
        chosen = (self.units,) if isinstance(self.units, int) else tuple(self.units)
        object.__setattr__(self, "units", chosen)
        if not chosen:
            raise InputError("units is empty: name at least one head or neuron")
        for unit in chosen:
            if isinstance(unit, bool) or not isinstance(unit, int):
                raise InputError(f"unit {unit!r} is no number of a head or neuron: give whole numbers")

    def edit(self, x: Float[Tensor, "n units *shape"], chosen: Chosen) -> Float[Tensor, "n units *shape"]:
        """The inner edit at these units, ``x`` at all others.

        Raises:
            HookPointError: a unit that there is not at this hook point.
        """
        n = x.shape[1]
        for unit in self.units:  # type: ignore[union-attr]
            if not -n <= unit < n:
                raise HookPointError(f"no unit {unit} at {chosen.hook!r}: there are {n} (0-{n - 1})")
        edited = self.intervention.edit(x, chosen)
        index = torch.tensor(self.units, device=x.device)
        out = x.to(edited.dtype, copy=True)
        out[:, index] = edited[:, index]
        return out
