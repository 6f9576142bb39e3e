"""Dataset-level CMRM (arXiv 2410.09047), from anchors to new tokens, one prompt at a time and without padding."""

import numpy as np
import torch

from tests.oracles.hooks import decoder


def encode(processor, text, image=None, system=None):
    """Tensors of one prompt under the chat template."""
    content = [{"type": "text", "text": text}]
    if image is not None:
        content.insert(0, {"type": "image"})
    turns = [] if system is None else [{"role": "system", "content": [{"type": "text", "text": system}]}]
    turns.append({"role": "user", "content": content})
    prompt = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return processor(text=[prompt], images=None if image is None else [image], return_tensors="pt")


@torch.no_grad()
def last_states(hf, tensors):
    """Output of every block at the last token: ``layer d_model``."""
    kept = []
    handles = [
        block.register_forward_hook(lambda module, args, out: kept.append(_tensor(out)[0, -1].clone()))
        for block in decoder(hf).layers
    ]
    hf(**tensors, use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack(kept)


def differences(hf, processor, texts, blank):
    """State with the blank image less the state without an image: ``text layer d_model``, in fp64."""
    rows = [
        last_states(hf, encode(processor, text, blank)).double() - last_states(hf, encode(processor, text)).double()
        for text in texts
    ]
    return torch.stack(rows)


def dataset_shift(hf, processor, anchors, blank):
    """Mean over anchors of the state with the blank image less the state without an image."""
    total = 0
    for text in anchors:
        with_image = last_states(hf, encode(processor, text, blank))
        total = total + with_image.double() - last_states(hf, encode(processor, text)).double()
    return (total / len(anchors)).float()


def principal(rows, scale):
    """First axis of the second moments about zero of ``n d_model`` rows, the way their mean points, at a length."""
    moments = np.asarray(rows.T @ rows)
    axis = torch.from_numpy(np.linalg.eigh(moments)[1][:, -1].copy())
    axis = axis if axis @ rows.mean(0) > 0 else -axis
    along = np.asarray(rows @ axis)
    return axis * {"unit": 1.0, "projection_mean": along.mean(), "projection_std": along.std(ddof=1)}[scale]


@torch.no_grad()
def generate(hf, tensors, shift, alpha, n, prefill_only=False, clean=None):
    """Greedy tokens while ``alpha * shift`` is subtracted at the last position of every block's output.

    With ``clean`` (``layer d_model``) it is subtracted from that, which takes the place of what a block gives.
    """
    width = tensors["input_ids"].shape[1]
    calls = [0] * len(shift)

    def subtract(layer):
        def hook(module, args, output):
            x = _tensor(output).clone()
            calls[layer] += 1
            # Not by length: of layers that borrow keys and values only the last token of a prompt is run (Gemma 4).
            if calls[layer] == 1 or not prefill_only:
                x[:, -1] = (x[:, -1] if clean is None else clean[layer]) - alpha * shift[layer]
            return (x, *output[1:]) if isinstance(output, tuple) else x

        return hook

    blocks = decoder(hf).layers
    handles = [block.register_forward_hook(subtract(i)) for i, block in enumerate(blocks)]
    new = hf.generate(**tensors, max_new_tokens=n, do_sample=False, pad_token_id=0)[:, width:]
    for handle in handles:
        handle.remove()
    return new[0].tolist()


def _tensor(output):
    return output[0] if isinstance(output, tuple) else output
