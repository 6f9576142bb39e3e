"""The tasks by TransformerLens's bridge: hooks by name, the model run in a loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources.transformers import helpers

from benchmarks.cases import Case

# Where a processor does not load it would have pip install torchvision, and another torch with it.
helpers._ensure_torchvision = lambda: False

Visit = Callable[[Tensor], Tensor]


def wrap(case: Case) -> Any:
    """The checkpoint, as TransformerLens loads it: eager attention."""
    bridge = TransformerBridge.boot_transformers(str(case.folder), device=case.device)
    bridge.original_model.generation_config = case.bare.generation_config
    return bridge


def forward(case: Case, bridge: Any, visits: dict[int, Visit] | None = None, tensors: Any = None) -> Tensor:
    """Logits of the next token, with layers' outputs passed through functions."""
    ids, rest = _split(tensors or case.tensors)
    hooks = [(_stream(layer), partial(_hook, visit=visit)) for layer, visit in (visits or {}).items()]
    with torch.no_grad():
        return bridge.run_with_hooks(ids, fwd_hooks=hooks, **rest)[:, -1]


@torch.no_grad()
def capture(case: Case, bridge: Any) -> Tensor:
    """``layer batch d_model``: every layer's output at the last token."""
    ids, rest = _split(case.tensors)
    names = [_stream(layer) for layer in range(case.layers)]
    _, cache = bridge.run_with_cache(ids, names_filter=names, pos_slice=-1, **rest)
    return torch.stack([cache[name].squeeze(1) for name in names])


def add(case: Case, bridge: Any) -> Tensor:
    """Logits with every layer's vector subtracted at the last token."""
    return forward(case, bridge, {layer: partial(_subtract, vector=v) for layer, v in enumerate(case.vectors)})


def sweep(case: Case, bridge: Any) -> Tensor:
    """``variant batch``: the metric with one layer's vector subtracted at the last token, at some strength."""
    edits = [{layer: partial(_subtract, vector=alpha * case.vectors[layer])} for layer, alpha in case.variants]
    return torch.stack([case.metric(forward(case, bridge, edit)) for edit in edits])


@torch.no_grad()
def steer(case: Case, bridge: Any) -> Tensor:
    """New tokens, with every layer's vector subtracted at the last prompt token and at each new one."""
    ids, rest = _split(case.tensors)
    hooks = [(_stream(n), partial(_hook, visit=partial(_subtract, vector=v))) for n, v in enumerate(case.vectors)]
    how = {"max_new_tokens": case.plan.new_tokens, "do_sample": False, "stop_at_eos": False, "verbose": False}
    with bridge.hooks(fwd_hooks=hooks):
        tokens = bridge.generate(ids, return_type="tokens", **how, **rest)
    return tokens[:, ids.shape[1] :]


def _split(tensors: dict[str, Tensor]) -> tuple[Tensor, dict[str, Any]]:
    rest = {name: tensor for name, tensor in tensors.items() if name != "input_ids"}
    return tensors["input_ids"], rest


def _stream(layer: int) -> str:
    return f"blocks.{layer}.hook_out"


def _hook(x: Tensor, hook: Any, visit: Visit) -> Tensor:
    return visit(x)


def _subtract(stream: Tensor, vector: Tensor) -> Tensor:
    new = stream.clone()
    new[:, -1] -= vector
    return new
