"""TBOP (arXiv 2603.14825): the projection on what is orthogonal to the first axes of blank-image shifts."""

import numpy as np
import torch

from tests.oracles import last_token


def projector(rows, k):
    """``U^T U`` of the ``k`` first axes of the second moments about zero of ``n d_model`` rows."""
    axes = np.linalg.eigh(np.asarray(rows.T @ rows))[1][:, -k:]
    return torch.from_numpy(axes @ axes.T).float()


def generate(hf, tensors, onto, layer, alpha, n, prefill_only):
    """Greedy tokens while that share of the component is removed at one layer."""

    def remove(at, state):
        return state - alpha * state @ onto if at == layer else state

    return last_token.generate(hf, tensors, n, remove, prefill_only)
