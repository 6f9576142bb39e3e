"""Silhouette of two conditions as clusters."""

import numpy as np

from cmrm_interp.axes import Float
from cmrm_interp.gap.draws import Draws, as_is


def silhouette(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None
) -> Float[np.ndarray, " draw"]:
    """Mean silhouette of the states with their conditions as clusters: 1 apart, 0 mixed.

    Rousseeuw (1987), "Silhouettes"; Euclidean distances. Equal to `sklearn.metrics.silhouette_score`.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.

    Returns:
        One value a draw.
    """
    from scipy.spatial.distance import pdist, squareform

    draws = draws or as_is(len(x))
    distances = squareform(pdist(np.concatenate([x, y])))
    first = np.concatenate([draws.signs, -draws.signs], axis=1) > 0
    weights = np.tile(draws.weights, 2)
    to_first, to_second = (weights * first) @ distances, (weights * ~first) @ distances
    size = draws.weights.sum(1, keepdims=True)
    # A state is no neighbour of its own, nor of its copies in a resample.
    own = np.where(first, to_first, to_second) / (size - weights)
    other = np.where(first, to_second, to_first) / size
    larger = np.maximum(own, other)
    each = (other - own) / np.where(larger > 0, larger, 1)
    return (weights * each).sum(1) / weights.sum(1)
