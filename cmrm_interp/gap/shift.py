"""The shift from one condition to another: is it one vector, and how long?

The shift of a prompt is its state in the first condition less its state in the second.
"""

import numpy as np

from cmrm_interp.axes import Float
from cmrm_interp.gap.draws import Draws, as_is, over_pairs, shifts


def shift_agreement(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None
) -> Float[np.ndarray, " draw"]:
    """Mean cosine between the shifts of two different prompts: 1 where all go one way, 0 where they have nothing alike.

    A prompt whose two states are equal has no direction and agrees with none.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.

    Returns:
        One value a draw.
    """
    each = x - y
    norms = np.linalg.norm(each, axis=1, keepdims=True)
    unit = each / np.where(norms > 0, norms, 1)
    return over_pairs(unit @ unit.T, draws or as_is(len(x)))


def shift_mean_share(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None
) -> Float[np.ndarray, " draw"]:
    """Share of the shifts' squared length that their mean explains: ``|m|^2 / (|m|^2 + variance)``.

    ``|m|^2`` is estimated over pairs of different prompts, without the noise of the mean, so that shifts that have
    nothing in common give 0 and not ``1 / n``.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.

    Returns:
        One value a draw.
    """
    draws, each = draws or as_is(len(x)), x - y
    total = draws.weights @ (each**2).sum(1) / draws.weights.sum(1)
    return over_pairs(each @ each.T, draws) / total


def shift_participation_ratio(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None
) -> Float[np.ndarray, " draw"]:
    """Effective rank of the shifts: their participation ratio, ``tr(C)^2 / tr(C^2)`` with ``C`` their second moment.

    The mean is kept: one vector for every prompt has rank 1, k orthogonal ones in equal parts have rank k. (Gao et
    al. 2017, "A theory of multineuronal dimensionality", for the ratio.) Both traces are taken over pairs of
    different prompts, so that n does not cap it. Signs do not change it, so there is no test.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.

    Returns:
        One value a draw, 1 or more.
    """
    draws, each = draws or as_is(len(x)), x - y
    unsigned = Draws(np.ones_like(draws.signs), draws.orders, draws.weights)
    gram = each @ each.T
    squares = np.diag(gram)
    return over_pairs(np.outer(squares, squares), unsigned) / over_pairs(gram**2, unsigned)


def shift_relative_norm(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None
) -> Float[np.ndarray, " draw"]:
    """Norm of the mean shift over the mean norm of the second condition's states.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.

    Returns:
        One value a draw.
    """
    draws = draws or as_is(len(x))
    norms = np.where(draws.signs > 0, np.linalg.norm(y, axis=1), np.linalg.norm(x, axis=1))
    return np.linalg.norm(shifts(x, y, draws), axis=1) * draws.weights.sum(1) / (draws.weights * norms).sum(1)
