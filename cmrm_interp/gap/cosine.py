"""Cosine between two conditions: of their means, and of the two states of each prompt."""

import numpy as np

from cmrm_interp.axes import Float
from cmrm_interp.gap.draws import Draws, as_is, shifts


def cosine(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None
) -> Float[np.ndarray, " draw"]:
    """Cosine of the angle between the means of two conditions, about the origin.

    A large mean that all states share (as residual streams have) keeps it near 1 even where the clouds are far apart.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.

    Returns:
        One value a draw.
    """
    draws = draws or as_is(len(x))
    shift = shifts(x, y, draws)
    middle = draws.weights @ ((x + y) / 2) / draws.weights.sum(1, keepdims=True)
    a, b = middle + shift / 2, middle - shift / 2
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def paired_cosine(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None
) -> Float[np.ndarray, " draw"]:
    """Mean over prompts of the cosine between a prompt's two states.

    Swapping the two changes nothing, so there is no test of it.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.

    Returns:
        One value a draw.
    """
    draws = draws or as_is(len(x))
    each = (x * y).sum(1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    return draws.weights @ each / draws.weights.sum(1)
