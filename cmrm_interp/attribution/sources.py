"""What each head brought from which tokens: ``z`` split by keys (``sum_k pattern[q, k] v[k]`` over each group)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.interventions import Chosen, Intervention, Step
from cmrm_interp.interventions.knockout import check_cross
from cmrm_interp.positions import Position, as_selector

REST = "rest"
IMAGE_AND_TEXT: Mapping[str, Position] = {"image": "image", "text": "text"}


@dataclass(frozen=True)
class SplitZ(Intervention):
    """Keeps z by source; as an intervention it changes nothing.

    Attributes:
        queries: tokens whose z is split.
        sources: groups of keys by name; tokens in none of them are the `REST`.
        n_layers: of the decoder.
        found: by layer, ``n source head d_head``.
        values: of the layer that the run is in.
    """

    queries: Position
    sources: Mapping[str, Position]
    n_layers: int
    found: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    @property
    def positions(self) -> Position:  # type: ignore[override]
        """The queries."""
        return self.queries

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources, the rest last."""
        return (*self.sources, REST)

    def targets(self, names: Sequence[str]) -> list[str]:
        """Values and patterns of all layers.

        Raises:
            HookPointError: a layer that has none, or attends to patches by cross-attention.
        """
        check_cross(names, range(self.n_layers), ())
        wanted = [f"blocks.{layer}.attn.hook_{what}" for layer in range(self.n_layers) for what in ("v", "pattern")]
        for name in wanted:
            if name not in names:
                raise HookPointError(f"there is no {name!r}, by which heads are split by source: use by='head'")
        return wanted

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """Nothing."""
        return x

    def apply(self, activation: Tensor, hook: str, step: Step) -> Tensor:
        """Keep the values until their pattern is met, and then what the pattern makes of each source's."""
        layer = int(hook.split(".")[1])
        if hook.endswith("hook_v"):
            self.values[layer] = activation
            return activation
        rows, columns = step.select(self.queries, activation.shape[2], activation.device)
        masks = step.once("sources", lambda: self._masks(step)).to(activation.device)
        values = self.values.pop(layer).float()
        values = values.repeat_interleave(activation.shape[1] // values.shape[2], 2)
        # A row at a time: its queries share its keys, of which there is no copy for each.
        parts = [
            torch.einsum(
                "hqk,sk,khd->qshd", activation[row][:, columns[rows == row]].float(), masks[:, row], values[row]
            )
            for row in rows.unique().tolist()
        ]
        self.found[layer] = torch.cat(parts).cpu() if parts else activation.new_zeros(0)
        return activation

    def _masks(self, step: Step) -> Float[Tensor, "source batch key"]:
        masks = torch.stack([as_selector(position).mask(step.tokens) for position in self.sources.values()])
        if bool((masks.sum(0) > 1).any()):
            raise InputError(f"sources {', '.join(self.sources)} overlap: each token can be in one of them alone")
        return torch.cat([masks, ~masks.any(0, keepdim=True)]).float()


def check_split(split: Mapping[int, Tensor], z: Mapping[int, Tensor]) -> None:
    """Refuse a split that does not add up to z.

    Args:
        split: by layer, ``n source head d_head``.
        z: by layer, ``n head d_head``.

    Raises:
        ModelError: something happens to values between their projection and the pattern.
    """
    for layer, parts in split.items():
        own = z[layer].float()
        slack = 100 * torch.finfo(z[layer].dtype).eps * max(1.0, float(own.abs().max()))
        if bool((parts.sum(1) - own).abs().max() > slack):
            raise ModelError(
                f"block {layer} does more to its values than weigh them by the pattern (it normalises, gates or shares"
                " them, or an intervention edits hook_z): heads cannot be split by source here, use by='head'"
            )
