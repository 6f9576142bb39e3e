"""Scores of candidate refusal directions (arXiv 2406.11717), by bare hooks, one prompt at a time."""

import numpy as np
import torch

from tests.oracles.cmrm import encode
from tests.oracles.two_classes import last, logits, states

ENDS = ("hook_resid_pre", "hook_attn_out", "hook_mlp_out")


def candidates(hf, processor, harmful, harmless, layers):
    """Difference of the means at the last token of every block's input."""
    points = [f"blocks.{layer}.hook_resid_pre" for layer in range(layers)]
    first, second = states(hf, processor, harmful, points), states(hf, processor, harmless, points)
    return np.stack([last(first[point]).mean(0) - last(second[point]).mean(0) for point in points])


def ablating(direction, layers):
    """Edits that take a direction out of every block's input, attention output and MLP output."""
    unit = torch.from_numpy(direction / np.linalg.norm(direction)).float()

    def fn(x):
        return x - (x @ unit)[..., None] * unit

    return {f"blocks.{layer}.{end}": fn for layer in range(layers) for end in ENDS}


def adding(direction, layer, alpha=1.0):
    """An edit that adds a direction to a block's input, at all tokens."""
    step = alpha * torch.from_numpy(direction).float()
    return {f"blocks.{layer}.hook_resid_pre": lambda x: x + step}


def refusal_score(row, tokens):
    """``log p(R) - log(1 - p(R))``."""
    p = np.exp(row - row.max())
    share = p[list(tokens)].sum() / p.sum()
    return np.log(share) - np.log(1 - share)


def kl(clean, edited):
    """KL(clean || edited)."""
    p, q = (np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in (clean, edited))
    return (p * (np.log(p) - np.log(q))).sum()


def rows(hf, processor, texts, edits):
    """Logits of the next token of each prompt, fp64."""
    return [logits(hf, encode(processor, text), edits).double().numpy() for text in texts]
