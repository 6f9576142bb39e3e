"""Maximum mean discrepancy between two conditions."""

import numpy as np

from cmrm_interp.axes import Float
from cmrm_interp.errors import InputError
from cmrm_interp.gap.draws import Draws, as_is, over_pairs


def mmd2(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None, bandwidth: float | None = None
) -> Float[np.ndarray, " draw"]:
    """Squared maximum mean discrepancy with a Gaussian kernel, unbiased; 0 for equal distributions.

    Gretton et al. (2012), "A kernel two-sample test", the U-statistic of Lemma 6 (Eq. 4): the mean over pairs of
    *different* prompts of ``k(x, x') + k(y, y') - k(x, y') - k(x', y)``. It leaves out ``k(x_i, y_i)``, which
    would favour pairs. Being unbiased, it can be a little below zero.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.
        bandwidth: sigma of ``exp(-|x - y|^2 / (2 sigma^2))``; the median distance of all states unless given.

    Returns:
        One value a draw.

    Raises:
        InputError: a bandwidth that is not positive, or more than half of the distances are zero.
    """
    from scipy.spatial.distance import pdist, squareform

    distances = pdist(np.concatenate([x, y]))
    sigma = float(np.median(distances)) if bandwidth is None else bandwidth
    if not sigma > 0:
        raise InputError(f"MMD with bandwidth {sigma}: give a positive one (the median is 0 where most states are one)")
    kernel, n = np.exp(-(squareform(distances) ** 2) / (2 * sigma**2)), len(x)
    cross = kernel[:n, n:]
    return over_pairs(kernel[:n, :n] + kernel[n:, n:] - cross - cross.T, draws or as_is(n))
