"""95 % intervals: of a share, and of a mean."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cmrm_interp.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_AT_ONCE = 2**22  # resampled values that are held at a time


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share; it stays in 0 .. 1 and is honest at 0 and at n.

    Raises:
        InputError: if there are no items, or fewer than successes.
    """
    if not 0 <= successes <= n or n == 0:
        raise InputError(f"{successes} of {n} is no share: n must be positive and at least the successes")
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    # At 0 and n an end of the interval is the share itself; rounding would put it beside.
    share = successes / n
    return min(float(low), share), max(float(high), share)  # pyright: ignore[reportArgumentType]


def bootstrap_mean(
    values: Sequence[float], seed: int = 0, confidence: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Bias-corrected bootstrap interval of the mean of independent values.

    Raises:
        InputError: if there are fewer than two values.
    """
    if len(values) < 2:
        raise InputError(f"an interval from {len(values)} values: give at least two")
    import numpy as np

    low, high = bootstrap_means(np.asarray(values, float)[:, None], seed, confidence, resamples)
    return float(low[0]), float(high[0])


def bootstrap_means(
    values: "np.ndarray", seed: int = 0, confidence: float = 0.95, resamples: int = 2000
) -> tuple["np.ndarray", "np.ndarray"]:
    """Intervals of the means of many columns, whose rows are resampled together; as `bootstrap_mean` for each.

    Args:
        values: n x columns.
        seed: of the resampling.
        confidence: of the interval.
        resamples: how many.

    Returns:
        Low and high ends, one a column; NaN where there is one row alone.
    """
    import numpy as np
    from scipy.stats import bootstrap

    values = np.asarray(values, float)
    if len(values) < 2:
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    low, high = values.min(0), values.max(0)
    # The correction divides by what the means differ by, which is nothing, or rounding, where the values are equal.
    varies = high - low > 64 * np.finfo(float).eps * np.abs(values).max(0)
    if varies.any():
        moving = values[:, varies]
        how = {"confidence_level": confidence, "n_resamples": resamples, "batch": _AT_ONCE // moving.size + 1}
        found = bootstrap((moving,), np.mean, axis=0, rng=seed, **how)
        low[varies], high[varies] = found.confidence_interval
    return low, high
