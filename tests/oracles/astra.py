"""ASTRA by hand (authors' code): a forward hook on one block, and nothing of the package."""

from contextlib import contextmanager

import torch

from tests.oracles import hooks


@contextmanager
def steering(hf, layer, v, h0, alpha):
    """``h <- h - clamp(cos(h - h0, v), 0, 1) * alpha * |h| * v / |v|`` at the last position of a block's output."""

    def _hook(block, given, output):
        states = output[0] if isinstance(output, tuple) else output
        h = states[:, -1]
        away = h - h0
        cosine = (away @ v) / (away.norm(dim=-1) * v.norm())
        c = cosine.clip(0, 1) * alpha * h.norm(dim=-1)
        moved = states.clone()
        moved[:, -1] = h - c[:, None] * v / v.norm()
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    handle = hooks.layers(hf)[layer].register_forward_hook(_hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def last_states(hf, tensors, layer):
    """``hidden_states[layer + 1]`` at the last position (not of the last layer, behind which stands the norm)."""
    return hf(**tensors, output_hidden_states=True).hidden_states[layer + 1][:, -1]
