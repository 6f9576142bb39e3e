"""How good held-out predictions are, with bootstrap intervals over groups.

Every score is a function of weights on the rows, so that one evaluation serves the value (all weights one) and its
resamples (each group as often as it was drawn).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cmrm_interp.axes import Bool, Float, Int
from cmrm_interp.intervals import wilson

BINS = 10
_PERFECT = ("auc", "accuracy", "balanced accuracy", "seen accuracy", "control accuracy")
_CHUNK = 4_000_000  # weights at a time, 32 MB


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions for rows that the classifier was not trained on.

    Attributes:
        y: labels.
        score: log-odds of True (larger is more likely; of any scale where a probe was calibrated).
        probability: of True.
        fold: in which each row was held out.
        groups: number of each row's group.
    """

    y: Bool[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]
    probability: Float[np.ndarray, " n"]
    fold: Int[np.ndarray, " n"]
    groups: Int[np.ndarray, " n"]

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(np.unique(self.groups))

    @property
    def n_scarce(self) -> int:
        """Number of groups that have the label which fewer groups have."""
        return min(len(np.unique(self.groups[self.y == label])) for label in (True, False))

    @property
    def right(self) -> Float[np.ndarray, " n"]:
        """One for each row that is classified right at a probability of one half."""
        return ((self.probability > 0.5) == self.y).astype(float)


Weights = Float[np.ndarray, "r n"]
Score = Callable[[Weights], Float[np.ndarray, " r"]]


def scores_of(held: HeldOut) -> dict[str, Score]:
    """All scores of some predictions, by name."""
    clipped = np.clip(np.where(held.y, held.probability, 1 - held.probability), 1e-12, 1.0)
    return {
        "auc": partial(_auc, held),
        "accuracy": partial(_mean, held.right),
        "balanced accuracy": lambda w: (_mean(held.right, w * held.y) + _mean(held.right, w * ~held.y)) / 2,
        "log loss": partial(_mean, -np.log(clipped)),
        "brier": partial(_mean, (held.probability - held.y) ** 2),
        "ece": partial(_ece, held),
    }


def mean_of(values: Float[np.ndarray, " n"]) -> Score:
    """The score that is the mean of one number a row."""
    return partial(_mean, values)


@dataclass(frozen=True)
class Estimate:
    """A number and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def estimates(scores: Mapping[str, Score], held: HeldOut, resamples: int, seed: int) -> dict[str, Estimate]:
    """Scores with percentile bootstrap intervals over groups.

    A bootstrap of predictions without an error has no width. There the interval is Wilson's, with as many items as
    there are groups (of the scarcer class, for scores that weigh the classes alike).

    Args:
        scores: by name.
        held: what they are of.
        resamples: how many times groups are drawn.
        seed: of the draws. Scores of one call share them, so differences between calls of one seed are paired.
    """
    value = {name: float(score(np.ones((1, len(held.y))))[0]) for name, score in scores.items()}
    drawn = resampled(list(scores.values()), held.groups, resamples, seed)
    found = {}
    for (name, number), draws in zip(value.items(), drawn, strict=True):
        # A resample without one of the classes has no AUC.
        low, high = np.nanquantile(draws, (0.025, 0.975))
        if name in _PERFECT and low == high and number in (0.0, 1.0):
            n = held.n_scarce if name in ("auc", "balanced accuracy") else held.n_groups
            low, high = wilson(round(number * n), n)
        found[name] = Estimate(number, float(low), float(high))
    return found


def resampled(
    scores: Sequence[Score], groups: Int[np.ndarray, " n"], resamples: int, seed: int
) -> list[Float[np.ndarray, " r"]]:
    """Each score on resamples of the groups."""
    kinds, inverse = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    each = max(1, _CHUNK // len(groups))
    parts = []
    for start in range(0, resamples, each):
        counts = rng.multinomial(len(kinds), np.full(len(kinds), 1 / len(kinds)), min(each, resamples - start))
        weights = counts[:, inverse].astype(float)
        parts.append([score(weights) for score in scores])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def auc(score: Float[np.ndarray, " n"], y: Bool[np.ndarray, " n"], weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the pairs of a True and a False row that are ranked right (ties count half), and of all such pairs."""
    order = np.argsort(score, kind="stable")
    score, y, weights = score[order], y[order], weights[:, order]
    below = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights * ~y, axis=1)], axis=1)
    first, last = (np.searchsorted(score, score[y], side=side) for side in ("left", "right"))
    positive = weights[:, y]
    ranked = (positive * (below[:, first] + below[:, last]) / 2).sum(1)
    return ranked, positive.sum(1) * below[:, -1]


def _auc(held: HeldOut, weights: np.ndarray) -> np.ndarray:
    # Scores of classifiers of different folds have no common zero, so only pairs within a fold are compared.
    folds = [held.fold == fold for fold in np.unique(held.fold)]
    parts = [auc(held.score[rows], held.y[rows], weights[:, rows]) for rows in folds]
    ranked, pairs = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
    return _ratio(ranked, pairs)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ values, weights.sum(1))


def _ece(held: HeldOut, weights: np.ndarray) -> np.ndarray:
    bins = np.minimum((held.probability * BINS).astype(int), BINS - 1)
    inside = (bins[:, None] == np.arange(BINS)).astype(float)
    gaps = weights @ (inside * (held.probability - held.y)[:, None])
    return np.abs(gaps).sum(1) / weights.sum(1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)
