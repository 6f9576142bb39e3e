"""Centred kernel alignment: do prompts lie to one another alike in two conditions?"""

import numpy as np

from cmrm_interp.axes import Float
from cmrm_interp.gap.draws import Draws, as_is


def cka(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None
) -> Float[np.ndarray, " draw"]:
    """Linear CKA: 1 where two conditions are equal up to rotation, scale and shift; biased up where d is near n.

    Kornblith et al. (2019), "Similarity of neural network representations revisited", Eq. 4 with
    linear kernels. A likeness and not a distance: the null is that of prompts paired at random.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.

    Returns:
        One value a draw.
    """
    return _alignment(_centred(_gram(x)), _centred(_gram(y)), draws or as_is(len(x)))


def cka_debiased(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None
) -> Float[np.ndarray, " draw"]:
    """Linear CKA from the unbiased HSIC: 0 for unrelated states however many dimensions there are.

    HSIC by Song et al. (2012), "Feature selection via dependence maximization", Eq. 5; in CKA first used by
    Nguyen et al. (2021), "Do wide and deep networks learn the same things?". Can be a little below zero.

    Args:
        x: states of the first condition, four at least.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.

    Returns:
        One value a draw.
    """
    return _alignment(_centred_hollow(_gram(x)), _centred_hollow(_gram(y)), draws or as_is(len(x)))


def _alignment(k: np.ndarray, other: np.ndarray, draws: Draws) -> np.ndarray:
    """Alignment of two centred kernels, in every draw.

    The bootstrap keeps the centring: to first order, moving it does not move the alignment.
    """
    values = _product(k, other, draws) / np.sqrt(_product(k, k, draws) * _product(other, other, draws))
    whole = np.vdot(k, other)
    # Shuffling pairs leaves the two norms as they are, so that only the product is found again.
    for row in range(draws.null.start, draws.null.stop):
        order = draws.orders[row]
        values[row] = values[0] * np.vdot(k, other[np.ix_(order, order)]) / whole
    return values


def _product(k: np.ndarray, other: np.ndarray, draws: Draws) -> np.ndarray:
    return np.einsum("di,di->d", draws.weights @ (k * other), draws.weights)


def _gram(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    return centred @ centred.T


def _centred(k: np.ndarray) -> np.ndarray:
    return k - k.mean(0) - k.mean(1)[:, None] + k.mean()


def _centred_hollow(k: np.ndarray) -> np.ndarray:
    """U-centred (Székely and Rizzo 2014): the unbiased HSIC is the product of two of these over n (n - 3)."""
    n, hollow = len(k), k - np.diag(np.diag(k))
    rows = hollow.sum(1) / (n - 2)
    centred = hollow - rows - rows[:, None] + hollow.sum() / ((n - 1) * (n - 2))
    return centred - np.diag(np.diag(centred))
