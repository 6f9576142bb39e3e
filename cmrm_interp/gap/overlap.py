"""Overlap of the shift with a direction or subspace, for example that of refusal."""

import numpy as np

from cmrm_interp.axes import Float
from cmrm_interp.gap.draws import Draws, as_is, shifts

_CHUNK = 100


def cosine_with(
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "n d"],
    basis: Float[np.ndarray, "1 d"],
    draws: Draws | None = None,
) -> Float[np.ndarray, " draw"]:
    """Cosine between the mean shift and a direction.

    The null's directions are not spheres' but the states' own: the mean difference between two random halves of the
    second condition's prompts. In a stream with a few strong dimensions, these agree by chance
    far more than random vectors do.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        basis: the direction, of length one.
        draws: None for the data as it is.

    Returns:
        One value a draw.
    """
    draws = draws or as_is(len(x))
    return _coordinates(x, y, basis, draws)[:, 0]


def share_in(
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "n d"],
    basis: Float[np.ndarray, "k d"],
    draws: Draws | None = None,
) -> Float[np.ndarray, " draw"]:
    """Share of the mean shift's squared length that lies in a subspace; the null is that of `cosine_with`.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        basis: of the subspace, orthonormal.
        draws: None for the data as it is.

    Returns:
        One value a draw, in 0 .. 1.
    """
    draws = draws or as_is(len(x))
    return (_coordinates(x, y, basis, draws) ** 2).sum(1)


def _coordinates(x: np.ndarray, y: np.ndarray, basis: np.ndarray, draws: Draws) -> np.ndarray:
    """Coordinates of the mean shift's unit vector in the basis, or in a random one in draws of the null."""
    stay = Draws(np.ones_like(draws.signs), draws.orders, draws.weights)
    shift = shifts(x, y, stay)
    shift = shift / np.linalg.norm(shift, axis=1, keepdims=True)
    found = shift @ basis.T
    halves = np.where(draws.orders[draws.null] < len(y) // 2, 1.0, -1.0)
    for start in range(0, len(halves), _CHUNK):
        rows = slice(start + 1, min(start + _CHUNK, len(halves)) + 1)
        found[rows] = _random_bases(y - y.mean(0), halves, rows, len(basis)) @ shift[0]
    return found


def _random_bases(y: np.ndarray, halves: np.ndarray, rows: slice, k: int) -> np.ndarray:
    chosen = np.arange(rows.start - 1, rows.stop - 1)
    vectors = np.stack([halves[(chosen + j) % len(halves)] @ y for j in range(k)], axis=2)
    return np.linalg.qr(vectors)[0].swapaxes(1, 2)
