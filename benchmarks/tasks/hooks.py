"""Plain Hugging Face calls, and each task as people write it with PyTorch's forward hooks: the model run in a loop."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Case


@torch.no_grad()
def forward(case: Case, hf: Any = None, tensors: dict[str, Tensor] | None = None) -> Tensor:
    """Logits of the next token; no hooks."""
    out = (hf or case.bare)(**(tensors or case.tensors), use_cache=False, logits_to_keep=1)
    return out.logits[:, -1]


@torch.no_grad()
def generate(case: Case, hf: Any = None, tensors: dict[str, Tensor] | None = None) -> Tensor:
    """New tokens; no hooks."""
    how = {"max_new_tokens": case.plan.new_tokens, "do_sample": False}
    out = (hf or case.bare).generate(**(tensors or case.tensors), **how)
    return out[:, case.tensors["input_ids"].shape[1] :]


def capture(case: Case, hf: Any = None, tensors: dict[str, Tensor] | None = None) -> Tensor:
    """``layer batch d_model``: every layer's output at the last token."""
    kept: list[Tensor] = []
    with hooked(hf or case.bare, range(case.layers), lambda layer, stream: kept.append(stream[:, -1].clone())):
        forward(case, hf, tensors)
    return torch.stack(kept)


def add(case: Case, hf: Any = None) -> Tensor:
    """Logits with every layer's vector subtracted at the last token."""
    with hooked(hf or case.bare, range(case.layers), lambda layer, x: _subtract(x, case.vectors[layer])):
        return forward(case, hf)


def steer(case: Case, hf: Any = None) -> Tensor:
    """New tokens, with every layer's vector subtracted at the last prompt token and at each new one."""
    with hooked(hf or case.bare, range(case.layers), lambda layer, x: _subtract(x, case.vectors[layer])):
        return generate(case, hf)


def sample_level(case: Case, hf: Any = None) -> Tensor:
    """New tokens under CMRM's sample level, as its paper does it: a pass with a blank image and one as text alone."""
    shift = capture(case, hf, case.blank) - capture(case, hf, case.bare_text)
    with hooked(hf or case.bare, range(case.layers), lambda layer, x: _subtract(x, shift[layer])):
        return generate(case, hf)


def sweep(case: Case, hf: Any = None) -> Tensor:
    """``variant batch``: the metric with one layer's vector subtracted at the last token, at some strength."""
    found = []
    for layer, alpha in case.variants:
        with hooked(hf or case.bare, [layer], lambda layer, x, alpha=alpha: _subtract(x, alpha * case.vectors[layer])):
            found.append(case.metric(forward(case, hf)))
    return torch.stack(found)


def ablation(case: Case, hf: Any = None) -> Tensor:
    """``layer batch``: the metric with one layer left out at all positions."""
    hf = hf or case.bare
    found = []
    for block in hf.get_decoder().layers:
        handle = block.register_forward_hook(lambda module, args, out: _as(out, args[0]))
        try:
            found.append(case.metric(forward(case, hf)))
        finally:
            handle.remove()
    return torch.stack(found)


def patch_last(case: Case, hf: Any = None) -> Tensor:
    """``cell batch``: the metric with one layer's output at one of the last positions as the clean run has it."""
    return _patching(case, hf or case.bare, case.last_positions)


def patch_spread(case: Case, hf: Any = None) -> Tensor:
    """``cell batch``: the same at positions all over the prompt."""
    return _patching(case, hf or case.bare, case.spread_positions)


def _patching(case: Case, hf: Any, positions: Iterable[int]) -> Tensor:
    clean: list[Tensor] = []
    with hooked(hf, range(case.layers), lambda layer, stream: clean.append(stream.clone())):
        forward(case, hf)
    found = []
    for layer, pos in product(case.patch_layers, positions):
        with hooked(hf, [layer], lambda layer, stream, pos=pos: _put(stream, pos, clean[layer])):
            found.append(case.metric(forward(case, hf, case.others)))
    return torch.stack(found)


@contextmanager
def hooked(hf: Any, layers: Iterable[int], visit: Callable[[int, Tensor], Tensor | None]) -> Iterator[None]:
    """Forward hooks on some of the decoder's blocks; what `visit` returns takes the place of a block's output."""

    def _hook(layer: int) -> Any:
        def _call(module: Any, args: Any, out: Any) -> Any:
            new = visit(layer, out[0] if isinstance(out, tuple) else out)
            return None if new is None else _as(out, new)

        return _call

    blocks = hf.get_decoder().layers
    handles = [blocks[layer].register_forward_hook(_hook(layer)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _as(out: Any, stream: Tensor) -> Any:
    return (stream, *out[1:]) if isinstance(out, tuple) else stream


def _subtract(stream: Tensor, vector: Tensor) -> Tensor:
    new = stream.clone()
    new[:, -1] -= vector
    return new


def _put(stream: Tensor, pos: int, clean: Tensor) -> Tensor:
    new = stream.clone()
    new[:, pos] = clean[:, pos]
    return new
