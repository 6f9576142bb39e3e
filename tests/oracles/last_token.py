"""Edits of the last token's state behind every block, with plain forward hooks."""

from contextlib import contextmanager

import torch

from tests.oracles.hooks import decoder


@contextmanager
def editing(hf, edit, prefill_only=False):
    """While it lasts, the output of block ``layer`` at the last position is ``edit(layer, state)``: ``batch d_model``.

    With ``prefill_only`` at the first call of each block alone.
    """
    blocks = decoder(hf).layers
    calls = [0] * len(blocks)

    def at(layer):
        def hook(module, args, output):
            x = tensor(output).clone()
            calls[layer] += 1
            # Not by length: of layers that borrow keys and values only the last token of a prompt is run (Gemma 4).
            if calls[layer] == 1 or not prefill_only:
                x[:, -1] = edit(layer, x[:, -1])
            return (x, *output[1:]) if isinstance(output, tuple) else x

        return hook

    handles = [block.register_forward_hook(at(layer)) for layer, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def generate(hf, tensors, n, edit, prefill_only=False):
    """Greedy new tokens of one prompt under an edit."""
    width = tensors["input_ids"].shape[1]
    with editing(hf, edit, prefill_only):
        return hf.generate(**tensors, max_new_tokens=n, do_sample=False, pad_token_id=0)[0, width:].tolist()


@torch.no_grad()
def states(hf, tensors, edit=None):
    """Output of every block at the last token, after an edit if there is one: ``layer d_model``."""
    kept = {}

    def keep(layer, state):
        kept[layer] = state if edit is None else edit(layer, state)
        return kept[layer]

    with editing(hf, keep):
        hf(**tensors, use_cache=False)
    return torch.cat([kept[layer] for layer in sorted(kept)])


def tensor(output):
    """What a block gives, whether alone or in a tuple."""
    return output[0] if isinstance(output, tuple) else output
