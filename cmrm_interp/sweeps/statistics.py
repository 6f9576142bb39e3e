"""How sure a mean over prompts is, and whether it differs from the clean model's: many cells at once."""

from typing import Literal

import numpy as np

from cmrm_interp.intervals import wilson

Alternative = Literal["two-sided", "less", "greater"]
RESAMPLES = 2000
PERMUTATIONS = 9999
# Numbers in memory at once, while resampling.
_MOST = 20_000_000


def intervals(values: np.ndarray, share: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals of the means of rows: Wilson's for shares, else the bias-corrected accelerated bootstrap.

    Args:
        values: ``rows prompts``.
        share: whether each value is 0 or 1.
        seed: of the resampling.

    Returns:
        Lower and upper ends; NaN where a mean of one value has none.
    """
    n_rows, n = values.shape
    if share:
        ends = np.array([wilson(int(row.sum()), n) for row in values])
        return ends[:, 0], ends[:, 1]
    if n < 2:
        return np.full(n_rows, np.nan), np.full(n_rows, np.nan)
    low, high = values[:, 0].copy(), values[:, 0].copy()
    # Where all are equal so is every resample, and the correction divides by nothing.
    spread = np.ptp(values, axis=1) > 0
    if spread.any():
        low[spread], high[spread] = _bootstrap(values[spread], seed)
    return low, high


def p_values(values: np.ndarray, clean: np.ndarray, alternative: Alternative, seed: int = 0) -> np.ndarray:
    """Paired permutation tests of rows against the clean values: the signs of the differences are flipped.

    Args:
        values: ``rows prompts``.
        clean: the same prompts, the same shape.
        alternative: ``"greater"`` asks whether a row's mean is above the clean one.
        seed: of the permutations; there are 9,999 of them, or all where there are fewer.
    """
    from scipy.stats import permutation_test

    def _mean(x: np.ndarray, axis: int = -1) -> np.ndarray:
        return x.mean(axis)

    found = permutation_test(
        (values - clean,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=max(1, _MOST // values.size),
        alternative=alternative,
        axis=-1,
        rng=np.random.default_rng(seed),
    )
    return np.asarray(found.pvalue)


def holm(p: np.ndarray) -> np.ndarray:
    """P-values corrected for their number (Holm, 1979)."""
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p, method="holm")[1])


def _bootstrap(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,),
        np.mean,
        axis=-1,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _MOST // values.size),
        rng=np.random.default_rng(seed),
    )
    return found.confidence_interval.low, found.confidence_interval.high
