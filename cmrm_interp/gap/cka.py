"""Centred kernel alignment: do prompts lie to one another alike in two conditions?"""

from collections.abc import Callable

import numpy as np

from cmrm_interp.axes import Float
from cmrm_interp.gap.draws import Draws, as_is

_Hsic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


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
    return _alignment(_gram(x), _gram(y), draws or as_is(len(x)), _hsic, _centred)


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
    return _alignment(_gram(x), _gram(y), draws or as_is(len(x)), _hsic_unbiased, _centred_hollow)


def _alignment(k: np.ndarray, other: np.ndarray, draws: Draws, hsic: _Hsic, centred: Callable) -> np.ndarray:
    weights = draws.weights
    with np.errstate(divide="ignore", invalid="ignore"):
        values = hsic(k, other, weights) / np.sqrt(hsic(k, k, weights) * hsic(other, other, weights))
    mine, theirs = centred(k), centred(other)
    whole = float((mine * theirs).sum())
    # Shuffling pairs leaves the two norms as they are, so that only the product is found again.
    for row in range(draws.null.start, draws.null.stop):
        order = draws.orders[row]
        values[row] = values[0] * np.vdot(mine, theirs[np.ix_(order, order)]) / whole
    return values


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


def _hsic(k: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    p = weights / weights.sum(1, keepdims=True)
    mine, theirs = p @ k, p @ other
    both = np.einsum("di,di->d", p @ (k * other), p)
    return both - 2 * (p * mine * theirs).sum(1) + (mine * p).sum(1) * (theirs * p).sum(1)


def _hsic_unbiased(k: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means of ``K_ij L_ij``, ``K_ij L_qr`` and ``K_ij L_iq`` over *different* prompts, with weights."""
    k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
    w, w2 = weights, weights**2
    first, second, third, fourth = (np.sum(w**power, axis=1) for power in (1, 2, 3, 4))
    product = k * other
    mine, theirs, both = w @ k, w @ other, w2 @ product
    two = ((w @ product) * w).sum(1)
    three = (w * mine * theirs).sum(1) - (both * w).sum(1)
    shared = (w2 * mine * theirs).sum(1) - (both * w2).sum(1)
    four = (mine * w).sum(1) * (theirs * w).sum(1) - 4 * shared - 2 * (both * w2).sum(1)
    pairs = first**2 - second
    triples = first**3 - 3 * first * second + 2 * third
    fours = first**4 - 6 * first**2 * second + 8 * first * third + 3 * second**2 - 6 * fourth
    return two / pairs + four / fours - 2 * three / triples
