"""Mahalanobis distance between the means of two conditions."""

import numpy as np

from cmrm_interp.axes import Float
from cmrm_interp.gap.draws import Draws, as_is, shifts
from cmrm_interp.gap.shrinkage import ledoit_wolf


def mahalanobis(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None
) -> Float[np.ndarray, " draw"]:
    """Distance of the means in standard deviations within a condition, by a shrunk covariance.

    The covariance is Ledoit and Wolf's (2004) of both conditions about their own means. Where labels are swapped
    it is found anew (in closed form: the scatter about the common mean stays, and only one direction of it is
    taken off); the bootstrap keeps the data's own and moves the means. Noise of the means is not taken off, so that
    two samples of one distribution are about ``sqrt(2 d / n)`` apart.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.

    Returns:
        One value a draw.
    """
    draws = draws or as_is(len(x))
    n, width = x.shape
    swapped = Draws(draws.signs, draws.orders, np.ones_like(draws.weights))
    z = np.concatenate([x, y])
    z = z - z.mean(0)
    _, root, axes = np.linalg.svd(z, full_matrices=False)
    kept = root > root[0] * 1e-10
    scatter, axes = root[kept] ** 2, axes[kept]
    # Coordinates on the principal axes, in which the scatter about the common mean is diagonal.
    u, moved = shifts(x, y, swapped) @ axes.T, shifts(x, y, draws) @ axes.T
    frobenius = (scatter**2).sum() - n * u**2 @ scatter + (n**2 / 4) * (u**2).sum(1) ** 2
    intensity, variance = ledoit_wolf(_squares(z @ axes.T, u, draws.signs), frobenius, width)
    scale, floor = (1 - intensity) / (2 * n), intensity * variance
    inverse = 1 / (scale[:, None] * scatter + floor[:, None])
    # Sherman and Morrison (1950): the scatter within is the common one less n / 2 times the shift's outer square.
    weight = scale * n / 2
    across = (moved * inverse * u).sum(1)
    squared = (moved**2 * inverse).sum(1) + weight * across**2 / (1 - weight * (u**2 * inverse).sum(1))
    return np.sqrt(squared)


def _squares(z: np.ndarray, u: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Squared distance of every state from its condition's mean, ``draw 2n``."""
    sides = np.concatenate([signs, -signs], axis=1)
    return (z**2).sum(1) - sides * (u @ z.T) + (u**2).sum(1, keepdims=True) / 4
