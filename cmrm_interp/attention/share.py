"""The share of attention that goes from some tokens to others, by layer and head."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from cmrm_interp.arguments import check_arguments
from cmrm_interp.attention.measuring import Watch, layers_with_pattern, watched
from cmrm_interp.axes import Bool, Float, Int, Tensor
from cmrm_interp.encoding import Batch
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.intervals import bootstrap_means
from cmrm_interp.interventions import Intervention
from cmrm_interp.model import Model
from cmrm_interp.plots import heatmap, lines
from cmrm_interp.positions import Position, check_position, position_mask
from cmrm_interp.running import BatchSize, each_batch
from cmrm_interp.vetting import vet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_HOW = ("interventions", "batch_size")


@dataclass(frozen=True, eq=False)
class AttentionShare:
    """Shares of attention, 0 to 1.

    Attributes:
        values: one for each prompt, layer and head.
        layers: numbers of the layers.
        prompts: indices of the prompts that have such queries and keys; the others are left out.
        queries, keys: what was asked for.
    """

    values: Float[Tensor, "prompt layer head"]
    layers: tuple[int, ...]
    prompts: tuple[int, ...]
    queries: Position
    keys: Position

    def table(self, by: Literal["head", "layer"] = "head", seed: int = 0) -> "pd.DataFrame":
        """Means over prompts with 95 % bootstrap intervals over prompts.

        Args:
            by: one row a layer and head, or one a layer (the mean of its heads).
            seed: of the bootstrap.

        Returns:
            Columns ``layer``, ``head`` (by head), ``value``, ``low``, ``high`` (NaN for one prompt) and ``n``.

        Raises:
            InputError: another `by`.
        """
        import pandas as pd

        if by not in ("head", "layer"):
            raise InputError(f"by={by!r}: use 'head' or 'layer'")

        values = self.values.double() if by == "head" else self.values.double().mean(-1, keepdim=True)
        flat = values.flatten(1).numpy()
        low, high = bootstrap_means(flat, seed)
        n_heads = values.shape[2]
        where = {"layer": [layer for layer in self.layers for _ in range(n_heads)]}
        where |= {"head": list(range(n_heads)) * len(self.layers)} if by == "head" else {}
        return pd.DataFrame({**where, "value": flat.mean(0), "low": low, "high": high, "n": len(flat)})

    def plot(self, by: Literal["head", "layer"] = "head") -> "Figure":
        """A map of layers and heads, or a line over layers with its interval."""
        flow = f"from {self.queries!r} to {self.keys!r}"
        if by == "head":
            return heatmap(self.table(), "head", "layer", labels={"value": "attention (share)"}, title=flow)
        return lines(self.table("layer"), "layer", labels={"value": f"attention to {self.keys!r} (share)"})


def attention_to(
    model: Model,
    inputs: Inputs,
    keys: Position = "image",
    queries: Position = "last",
    layers: int | Iterable[int] | None = None,
    **how: Any,
) -> AttentionShare:
    """Share of the attention of some tokens that goes to others: the pattern summed over keys, mean over queries.

    Patterns are summed as the model runs and never kept. Prompts without such queries or keys do not count. The share
    of attention is not the share of what attention adds to the stream: see ``direct_logit_attribution(by="source")``.

    Args:
        model: loaded with ``attn_implementation="eager"``.
        inputs: what to run.
        keys: tokens that are attended to.
        queries: tokens that attend.
        layers: negative ones count from the last; None for all.
        **how: ``interventions`` under which the model runs, and ``batch_size`` (rows a batch, or ``"auto"``).

    Raises:
        HookPointError: a layer or position that there is not, attention without a pattern over tokens, or no prompt
            with such tokens.
        InputError: an argument that there is not.
        ModelError: the model was not loaded with eager attention, or gives NaN.
    """
    check_arguments("attention_to", how, ("keys", "queries", "layers", *_HOW))
    for position in (queries, keys):
        check_position(position)
    numbers = layers_with_pattern(model, layers, (queries, keys))
    found = list(_batches(model, inputs, _Sum(queries, keys, numbers), **how))
    values, has = (torch.cat(parts) for parts in zip(*found, strict=True))
    if not bool(has.any()):
        raise HookPointError(
            f"none of these {len(inputs)} prompts has both queries at {queries!r} and keys at {keys!r}: give prompts"
            " with images, or other positions"
        )
    prompts = tuple(has.nonzero().flatten().tolist())
    return AttentionShare(values[has], numbers, prompts, queries, keys)


def _batches(
    model: Model,
    inputs: Inputs,
    watching: Watch,
    interventions: Sequence[Intervention] | Intervention = (),
    batch_size: BatchSize = "auto",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shares of each batch, and which of its prompts have such queries and keys."""
    acting = vet(model, inputs, interventions)

    def _run(batch: Batch) -> tuple[Tensor, Tensor]:
        queries, keys = (position_mask(position, batch.tokens).any(1).cpu() for position in watching.asked)
        return watched(model, batch, watching, acting), queries & keys

    yield from each_batch(inputs, batch_size, _run, "attention")


@dataclass(frozen=True)
class _Sum(Watch):
    """Attention to all keys together, the mean of each row's queries: ``batch head``."""

    def keep(
        self, pattern: Float[Tensor, "n head key"], keys: Bool[Tensor, "batch key"], rows: Int[Tensor, " n"]
    ) -> Float[Tensor, "batch head"]:
        """Zero for rows without such queries or keys."""
        share = torch.einsum("nhk,nk->nh", pattern.float(), keys[rows].float())
        total = share.new_zeros(keys.shape[0], share.shape[1]).index_add(0, rows, share)
        return total / torch.bincount(rows, minlength=keys.shape[0]).clamp(min=1)[:, None]
