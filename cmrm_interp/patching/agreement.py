"""How well one grid of patching (attribution patching, say) agrees with another (the exact one)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.patching.results import PatchingResult

RESAMPLES = 2000


@dataclass(frozen=True)
class Agreement:
    """Of the effects of all cells, each a mean over prompts; intervals (95 %) by resampling prompts.

    Attributes:
        pearson, spearman: correlation over cells, of values and of ranks.
        max_difference: the largest difference of two effects, in the metric's own unit.
        intervals: lower and upper end of each, by name; none for a single prompt.
        cells: number of cells.
        n: number of prompts.
    """

    pearson: float
    spearman: float
    max_difference: float
    intervals: Mapping[str, tuple[float, float]]
    cells: int
    n: int


def agreement(
    exact: PatchingResult, approximate: PatchingResult, metric: str | None = None, seed: int = 0
) -> Agreement:
    """Correlations and largest difference of two grids of effects.

    Args:
        exact: by `activation_patching`.
        approximate: by `attribution_patching`, over the same grid, prompts and metric.
        metric: may be left out where there is one.
        seed: of the resampling.

    Raises:
        MismatchError: other axes, prompts or metrics.
        InputError: fewer than three cells, or a grid in which all effects are equal.
    """
    a, b = exact.raw, approximate.raw
    if a.axes != b.axes or a.n != b.n:
        raise MismatchError(f"two different grids: {exact!r} and {approximate!r}: give both the same arguments")
    name = metric or a.metrics[0]
    if name not in b.metrics:
        raise MismatchError(f"the one grid has metric {name!r}, the other {', '.join(b.metrics)}")
    effects = np.stack([r.values(name) - r.values(name, clean=True) for r in (a, b)]).reshape(2, -1, a.n)
    if effects.shape[1] < 3:
        raise InputError(f"a correlation over {effects.shape[1]} cells: give at least 3")
    flat = [r for r, own in zip((exact, approximate), effects.mean(-1), strict=True) if np.ptp(own) == 0]
    if flat:
        raise InputError(f"all cells of {flat[0]!r} have the same effect: there is nothing to correlate")
    pearson, spearman, difference = map(float, _measures(effects.mean(-1)[..., None])[:, 0])
    ends = _intervals(effects, seed) if a.n > 1 else {}
    return Agreement(pearson, spearman, difference, ends, effects.shape[1], a.n)


def _measures(means: np.ndarray) -> np.ndarray:
    """Pearson, Spearman, largest difference of ``2 cells resamples``: ``3 resamples``."""
    from scipy.stats import rankdata

    a, b = means
    return np.stack([_pearson(a, b), _pearson(rankdata(a, axis=0), rankdata(b, axis=0)), np.abs(a - b).max(0)])


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(0), b - b.mean(0)
    size = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    # A resample in which all effects are equal has no correlation.
    return np.divide((a * b).sum(0), size, out=np.full(size.shape, np.nan), where=size > 0)


def _intervals(effects: np.ndarray, seed: int) -> dict[str, tuple[float, float]]:
    n = effects.shape[-1]
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    low, high = np.nanquantile(_measures(effects @ drawn.T / n), [0.025, 0.975], axis=1)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(("pearson", "spearman", "max_difference"))}
