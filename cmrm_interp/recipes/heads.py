"""Attention heads one by one: a probe of each, and a shift along what it tells."""

import numpy as np

from cmrm_interp.axes import Bool, Float
from cmrm_interp.errors import InputError


def head_probe(
    z: Float[np.ndarray, "n d_head"], positive: Bool[np.ndarray, " n"], held_out: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " d_head"], float]:
    """A logistic probe of a head's output, fitted on some rows and scored on the others.

    Args:
        z: outputs of the head.
        positive: class of each row.
        held_out: rows that are not fitted on.

    Returns:
        The probe's weights, and its accuracy on the rows held out.
    """
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(max_iter=1000).fit(z[~held_out], positive[~held_out])
    return probe.coef_[0], float(probe.score(z[held_out], positive[held_out]))


def head_shift(
    z: Float[np.ndarray, "n d_head"],
    positive: Bool[np.ndarray, " n"],
    along: Float[np.ndarray, " d_head"] | None = None,
    name: str = "this head",
) -> Float[np.ndarray, " d_head"]:
    """A unit direction times the standard deviation of the head's projections on it.

    Args:
        z: outputs of the head.
        positive: class of each row.
        along: the direction, of any length; None for the difference of class means.
        name: of the head, for the error.

    Raises:
        InputError: the direction is zero.
    """
    way = z[positive].mean(0) - z[~positive].mean(0) if along is None else np.asarray(along)
    length = np.linalg.norm(way)
    if length <= np.linalg.norm(z, axis=1).mean() * 1e-6:
        raise InputError(f"{name} has the same mean in both classes, and so no direction: are they the same prompts?")
    return way / length * (z @ (way / length)).std()


def held_out_rows(n: int, share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Which of some rows are held out, drawn at random; for equal numbers of rows the same ones.

    Raises:
        InputError: fewer than two rows.
    """
    size = max(round(share * n), 1)
    if n - size < 1:
        raise InputError(f"a class of {n} anchor: two at least, one to fit probes on and one to score them on")
    return np.isin(np.arange(n), np.random.default_rng(seed).permutation(n)[:size])
