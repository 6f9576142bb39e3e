"""VTI (arXiv 2410.15778): its direction by scikit-learn's PCA, and its layer written out."""

import numpy as np
import torch
from sklearn.decomposition import PCA


def direction(differences):
    """Mean plus the first centred component of differences ``n d``, the component turned along the mean."""
    pca = PCA(1, svd_solver="full").fit(np.asarray(differences, dtype=np.float64))
    component = pca.components_[0]
    return pca.mean_ + component * (1 if component @ pca.mean_ >= 0 else -1)


def layer(v, lam):
    """The edit of an MLP's output, of all tokens; ``v`` is ``d`` or ``token d``."""
    unit = v / torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp(min=1e-12)

    def edit(x):
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        moved = x / norm + 0.1 * lam * unit.to(x)
        return moved / torch.linalg.vector_norm(moved, dim=-1, keepdim=True) * norm

    return edit
