"""How far Ledoit and Wolf pull a covariance towards a sphere, from sums that Gram matrices give."""

import numpy as np

from cmrm_interp.axes import Float


def ledoit_wolf(
    squares: Float[np.ndarray, "draw n"], frobenius: Float[np.ndarray, " draw"], width: int
) -> tuple[Float[np.ndarray, " draw"], Float[np.ndarray, " draw"]]:
    """Intensity of the shrinkage and variance of the sphere: ``(1 - intensity) * S + intensity * variance * 1``.

    Ledoit and Wolf (2004), "A well-conditioned estimator for large-dimensional covariance matrices"; equal to
    `sklearn.covariance.LedoitWolf`, without a ``d d`` matrix.

    Args:
        squares: squared norm of each centred row.
        frobenius: sum of the squares of all entries of the scatter matrix (or of the rows' Gram matrix).
        width: dimensions.
    """
    n = squares.shape[-1]
    variance = squares.sum(-1) / n / width
    spread = frobenius / n**2
    noise = ((squares**2).sum(-1) / n - spread) / (width * n)
    distance = (spread - width * variance**2) / width
    intensity = np.clip(noise, 0, distance) / np.where(distance > 0, distance, 1)
    # A sphere of nothing would leave directions without variance, by which a distance cannot be divided.
    return np.clip(intensity, 1e-6, 1), variance
