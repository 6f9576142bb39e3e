"""The tasks as one writes them with nnsight by hand: a trace a run."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import nnsight
import torch
from torch import Tensor

from benchmarks.cases import Case

# A forward pass without cache, the last position's logits alone: what plain calls are compared with.
HOW: dict[str, Any] = {"use_cache": False, "logits_to_keep": 1}


def wrap(case: Case) -> Any:
    """A copy of the model of its own, under nnsight."""
    return nnsight.NNsight(case.network())


@torch.no_grad()
def capture(case: Case, model: Any) -> Tensor:
    """``layer batch d_model``: every layer's output at the last token."""
    layers = model.model.language_model.layers
    with model.trace(**case.tensors, **HOW):
        kept = nnsight.save([layer.output[:, -1].clone() for layer in layers])
    return torch.stack(kept)


@torch.no_grad()
def add(case: Case, model: Any) -> Tensor:
    """Logits with every layer's vector subtracted at the last token."""
    layers = model.model.language_model.layers
    with model.trace(**case.tensors, **HOW):
        for layer, vector in zip(layers, case.vectors, strict=True):
            layer.output[:, -1] -= vector
        logits = nnsight.save(model.output.logits)
    return logits[:, -1]


@torch.no_grad()
def sweep(case: Case, model: Any) -> Tensor:
    """``variant batch``: the metric with one layer's vector subtracted at the last token, at some strength."""
    layers, found = model.model.language_model.layers, []
    for layer, alpha in case.variants:
        with model.trace(**case.tensors, **HOW):
            layers[layer].output[:, -1] -= alpha * case.vectors[layer]
            logits = nnsight.save(model.output.logits)
        found.append(case.metric(logits[:, -1]))
    return torch.stack(found)


@torch.no_grad()
def ablation(case: Case, model: Any) -> Tensor:
    """``layer batch``: the metric with one layer left out at all positions."""
    found = []
    for layer in model.model.language_model.layers:
        with model.trace(**case.tensors, **HOW):
            layer.output = layer.input
            logits = nnsight.save(model.output.logits)
        found.append(case.metric(logits[:, -1]))
    return torch.stack(found)


def patch_last(case: Case, model: Any) -> Tensor:
    """``cell batch``: the metric with one layer's output at one of the last positions as the clean run has it."""
    return _patching(case, model, case.last_positions)


def patch_spread(case: Case, model: Any) -> Tensor:
    """``cell batch``: the same at positions all over the prompt."""
    return _patching(case, model, case.spread_positions)


@torch.no_grad()
def steer(case: Case, model: Any) -> Tensor:
    """New tokens, with every layer's vector subtracted at the last prompt token and at each new one."""
    layers, how = model.model.language_model.layers, {"max_new_tokens": case.plan.new_tokens, "do_sample": False}
    with model.trace(**case.tensors, **how, fn="generate") as tracer:
        for _ in tracer.iter[: case.plan.new_tokens]:
            for layer, vector in zip(layers, case.vectors, strict=True):
                layer.output[:, -1] -= vector
        tokens = nnsight.save(tracer.result)
    return tokens[:, case.tensors["input_ids"].shape[1] :]


@torch.no_grad()
def _patching(case: Case, model: Any, positions: Iterable[int]) -> Tensor:
    layers, found = model.model.language_model.layers, []
    with model.trace(**case.tensors, **HOW):
        clean = nnsight.save([layer.output.clone() for layer in layers])
    for layer, pos in product(case.patch_layers, positions):
        with model.trace(**case.others, **HOW):
            layers[layer].output[:, pos] = clean[layer][:, pos]
            logits = nnsight.save(model.output.logits)
        found.append(case.metric(logits[:, -1]))
    return torch.stack(found)
