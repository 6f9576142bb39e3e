"""Logits of inputs, with interventions."""

from collections.abc import Sequence

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.errors import HookPointError
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.positions import last_index
from cmrm_interp.running import BatchSize, each_batch, edits, forward
from cmrm_interp.tracing import Network


def logits(
    network: Network,
    encoder: Encoder,
    inputs: Inputs,
    interventions: Sequence[Intervention] = (),
    positions: str = "last",
    batch_size: BatchSize = "auto",
) -> Float[Tensor, "..."]:
    """Logits of every row, on the CPU, in the model's dtype.

    Args:
        network: the model.
        encoder: of the model.
        inputs: what to run.
        interventions: checked ones.
        positions: ``"last"`` or ``"all"``.
        batch_size: rows a batch.

    Returns:
        ``batch vocab`` for ``"last"``; ``batch pos vocab`` for ``"all"``, padded as the inputs are.

    Raises:
        HookPointError: another position.
    """
    if positions not in ("last", "all"):
        raise HookPointError(
            f"logits at {positions!r}: use 'last' or 'all' (capture 'unembed.hook_out' for other positions)"
        )

    def _run(batch: Batch) -> Tensor:
        visits = edits(network, encoder, interventions, batch)
        if positions == "all":
            return forward(network, batch, visits).logits.cpu()
        if inputs.padding_side == "left":
            return forward(network, batch, visits, logits_to_keep=1).logits[:, -1].cpu()
        every = forward(network, batch, visits).logits
        return every[torch.arange(every.shape[0]), last_index(batch.tokens.real)].cpu()

    parts = list(each_batch(inputs, batch_size, _run, "logits"))
    return torch.cat(parts) if positions == "last" else _padded(parts, inputs.padding_side == "left")


def _padded(parts: Sequence[Tensor], left: bool) -> Tensor:
    width = max(part.shape[1] for part in parts)
    pads = [(0, 0, width - p.shape[1], 0) if left else (0, 0, 0, width - p.shape[1]) for p in parts]
    return torch.cat([torch.nn.functional.pad(part, pad) for part, pad in zip(parts, pads, strict=True)])
