"""The gated shift's formulas: the closed loop by bare hooks, one prompt at a time, and the gate in NumPy."""

import numpy as np
import torch

from tests.oracles import last_token
from tests.oracles.cmrm import encode, last_states


def closed_loop(hf, processor, texts, images):
    """Vectors ``layer d_model``: each the mean shift under the subtraction of those before."""
    targets = torch.stack([last_states(hf, encode(processor, text)) for text in texts]).double().mean(0)
    vectors = []
    for layer, target in enumerate(targets):
        mean = torch.zeros_like(target)
        for text, image in zip(texts, images, strict=True):
            before = list(vectors)
            states = last_token.states(hf, encode(processor, text, image), lambda at, x, b=before: subtract(b, at, x))
            mean += states[layer].double() / len(texts)
        vectors.append((mean - target).float())
    return torch.stack(vectors)


def subtract(vectors, layer, x, strength=1.0):
    """The state less its layer's vector, where there is one already."""
    return x - strength * vectors[layer] if layer < len(vectors) else x


def ledoit_wolf(x):
    """Covariance of centred rows, shrunk towards a multiple of the identity (Ledoit and Wolf 2004, Lemma 3.3)."""
    n, p = x.shape
    sample = x.T @ x / n
    mean = np.trace(sample) / p
    apart = ((sample - mean * np.eye(p)) ** 2).sum() / p
    noise = sum(((np.outer(row, row) - sample) ** 2).sum() for row in x) / p / n**2
    weight = min(noise, apart) / apart
    return weight * mean * np.eye(p) + (1 - weight) * sample


def gate(harmful, harmless, asked):
    """Harm (1 harmful centre, -1 harmless one) and squared distance of states, both means over the blocks.

    Args:
        harmful: ``n layer d_model``.
        harmless: as many blocks.
        asked: of the states that are judged.
    """
    harm, far = [], []
    for h, b, x in zip(*(part.swapaxes(0, 1).astype(float) for part in (harmful, harmless, asked)), strict=True):
        mean_h, mean_b = h.mean(0), b.mean(0)
        inverse = np.linalg.inv(ledoit_wolf(np.concatenate([h - mean_h, b - mean_b])))

        def apart(y, mean, inverse=inverse):
            return np.array([(row - mean) @ inverse @ (row - mean) for row in y])

        unit = apart(h, mean_h).mean()
        harm.append((apart(x, mean_b) - apart(x, mean_h)) / apart(mean_b[None], mean_h))
        far.append(apart(x, mean_h) / unit)
    return np.mean(harm, 0), np.mean(far, 0)
