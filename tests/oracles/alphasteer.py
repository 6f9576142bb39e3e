"""AlphaSteer (arXiv 2506.07022) as its released code computes it, in NumPy; steering by bare hooks."""

import numpy as np


def projector(benign, share):
    """``P = U0 U0^T`` of the smallest right singular vectors of activations ``n d``, all that are zero among them."""
    n, d = benign.shape
    size = min(max(round(share * d), d - n, 1), d - 1)
    last = np.linalg.svd(benign.T @ benign)[2][-size:]
    return last.T @ last


def steering_matrix(benign, harmful, target, share, ridge):
    """The matrix ``A`` with ``h' = h + strength * h A`` for rows ``h``; by a pseudo-inverse."""
    p = projector(benign, share)
    x = harmful @ p
    wanted = np.broadcast_to(target, harmful.shape)
    return p @ np.linalg.pinv(x.T @ x + ridge * p.T @ p, rcond=1e-9) @ x.T @ wanted


def at_last(matrix, strength):
    """An edit of a block's input at the last column: ``batch pos d``."""

    def edit(x):
        x = x.clone()
        x[:, -1] += strength * x[:, -1] @ matrix.to(x)
        return x

    return edit
