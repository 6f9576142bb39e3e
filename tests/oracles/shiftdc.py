"""ShiftDC (arXiv 2502.13095), one prompt at a time, from captions to new tokens."""

import numpy as np
import torch

from tests.oracles import last_token
from tests.oracles.cmrm import encode


@torch.no_grad()
def caption(hf, processor, image, question, n):
    """What the model says of an image."""
    tensors = encode(processor, question, image)
    new = hf.generate(**tensors, max_new_tokens=n, do_sample=False, pad_token_id=0)
    return processor.tokenizer.decode(new[0, tensors["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def safety(hf, processor, harmful, harmless):
    """Mean state of harmless texts less that of harmful ones: ``layer d_model`` (Eq. 4)."""
    means = [
        np.mean([last_token.states(hf, encode(processor, text)).double().numpy() for text in texts], axis=0)
        for texts in (harmless, harmful)
    ]
    return means[0] - means[1]


def correction(hf, processor, shown, told, along, layers):
    """Part of (shown - told) along the safety direction at chosen layers, nothing at others (Eq. 5 to 7)."""
    m = last_token.states(hf, shown).double().numpy() - last_token.states(hf, encode(processor, told)).double().numpy()
    parts = np.zeros_like(m)
    for layer in layers:
        s = along[layer]
        parts[layer] = (m[layer] * s).sum() / (s * s).sum() * s
    return torch.from_numpy(parts).float()
