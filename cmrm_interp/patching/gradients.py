"""Gradients of a metric at hook points: one forward pass and one backward."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cmrm_interp.axes import Tensor
from cmrm_interp.encoding import Batch
from cmrm_interp.errors import InputError
from cmrm_interp.metrics import Metric, Seen
from cmrm_interp.remote import RemoteNetwork
from cmrm_interp.running import frozen_weights, to_device, with_positions
from cmrm_interp.tracing import Network


@dataclass(frozen=True)
class Slope:
    """A hook point in one batch.

    Attributes:
        value: the activation there.
        gradient: of the metric, each row's own with respect to that row.
    """

    value: Tensor
    gradient: Tensor


def slopes(network: Network, batch: Batch, hooks: Sequence[str], metric: Metric) -> dict[str, Slope]:
    """Activations and the metric's gradient with respect to them.

    To each activation a zero is added, and the gradient is taken with respect to the zeros: rows do not touch one
    another, so the gradient of the sum over rows is each row's own.

    Args:
        network: the model.
        batch: rows, padded on the left.
        hooks: hook points of the decoder.
        metric: of the next token's logits, and of nothing else (`next_token_metric`).

    Raises:
        InputError: a model that runs elsewhere, or a metric through which no gradient flows.
    """
    if isinstance(network, RemoteNetwork):
        raise InputError("gradients are taken on this machine: load the model without remote=")
    kept: dict[str, tuple[Tensor, Tensor]] = {}
    with torch.enable_grad(), frozen_weights(network.hf):
        logits = _forward(network, batch, {name: _Zero(name, kept) for name in hooks})
        total = metric.measure(Seen(logits[:, -1])).sum()
        if not total.requires_grad:
            raise InputError(f"no gradient flows through metric {metric.name!r}: compute it in torch, from the logits")
        found = torch.autograd.grad(total, [kept[name][1] for name in hooks])
    return {name: Slope(kept[name][0], gradient) for name, gradient in zip(hooks, found, strict=True)}


@dataclass(frozen=True)
class _Zero:
    name: str
    kept: dict[str, tuple[Tensor, Tensor]] = field(repr=False)

    def __call__(self, activation: Tensor, step: int) -> Tensor:
        zero = torch.zeros_like(activation, requires_grad=True)
        self.kept[self.name] = (activation.detach(), zero)
        return activation + zero


def _forward(network: Network, batch: Batch, visits: dict[str, Any]) -> Tensor:
    tensors = to_device(network, with_positions(network, batch))
    result: list[Any] = []

    def _call() -> None:
        with torch.enable_grad():
            result.append(network.model(tensors)(**tensors, use_cache=False, logits_to_keep=1))

    network.run(_call, tensors, visits)
    return result[0].logits
