"""Dataset-level CMRM (arXiv 2410.09047), from anchors to new tokens, one prompt at a time and without padding."""

import numpy as np
import torch

from tests.oracles import last_token


def encode(processor, text, image=None, system=None):
    """Tensors of one prompt under the chat template."""
    content = [{"type": "text", "text": text}]
    if image is not None:
        content.insert(0, {"type": "image"})
    turns = [] if system is None else [{"role": "system", "content": [{"type": "text", "text": system}]}]
    turns.append({"role": "user", "content": content})
    prompt = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return processor(text=[prompt], images=None if image is None else [image], return_tensors="pt")


def last_states(hf, tensors):
    """Output of every block at the last token: ``layer d_model``."""
    return last_token.states(hf, tensors)


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


def generate(hf, tensors, shift, alpha, n, prefill_only=False, clean=None):
    """Greedy tokens while ``alpha * shift`` is subtracted at the last position of every block's output.

    With ``clean`` (``layer d_model``) it is subtracted from that, which takes the place of what a block gives.
    """

    def subtract(layer, state):
        return (state if clean is None else clean[layer]) - alpha * shift[layer]

    return last_token.generate(hf, tensors, n, subtract, prefill_only)
