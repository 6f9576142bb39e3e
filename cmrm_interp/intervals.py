"""95 % intervals: of a share, and of a mean."""

from collections.abc import Sequence

from cmrm_interp.errors import InputError


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
    if len(set(values)) == 1:  # every resample is the same, which the correction divides by
        return float(values[0]), float(values[0])
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.asarray(values, float),), np.mean, confidence_level=confidence, n_resamples=resamples, rng=seed
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
