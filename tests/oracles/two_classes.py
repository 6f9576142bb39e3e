"""States of two classes, one prompt at a time and without padding, and edits of all blocks, by bare hooks."""

import numpy as np

from tests.oracles import hooks
from tests.oracles.cmrm import encode


def post(layer):
    """Hook point of a block's output."""
    return f"blocks.{layer}.hook_resid_post"


def states(hf, processor, texts, points, images=None):
    """Activations of each prompt: hook point to a list of ``pos d_model`` arrays, fp64."""
    found = {point: [] for point in points}
    for row, text in enumerate(texts):
        seen = hooks.read(hf, encode(processor, text, images and images[row]), wanted=points)
        for point in points:
            found[point].append(seen[point][0].double().numpy())
    return found


def last(rows):
    """Last tokens: ``n d_model``."""
    return np.stack([row[-1] for row in rows])


def logits(hf, tensors, edits):
    """Logits of the next token with ``fn(activation) -> activation`` at hook points."""
    return hooks.logits(hf, tensors, edits)[0, -1]


def oriented_svd(differences, rank):
    """First right singular vectors of uncentred differences, each along the mean."""
    _, _, rows = np.linalg.svd(differences, full_matrices=False)
    signs = np.where(rows[:rank] @ differences.mean(0) < 0, -1, 1)
    return rows[:rank] * signs[:, None]
