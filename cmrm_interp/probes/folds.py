"""Folds that keep groups together, and labels at random: between groups, and for the control task."""

import numpy as np

from cmrm_interp.axes import Bool, Int
from cmrm_interp.errors import InputError

Splits = list[tuple[np.ndarray, np.ndarray]]


def grouped_folds(y: Bool[np.ndarray, " n"], groups: Int[np.ndarray, " n"], folds: int, seed: int) -> Splits:
    """Rows to train on and rows held out, fold by fold; no group is in both, classes are spread evenly.

    Raises:
        InputError: a class has fewer groups than there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    counts = {label: len(np.unique(groups[y == label])) for label in (True, False)}
    fewest = min(counts, key=lambda label: counts[label])
    if counts[fewest] < folds:
        advice = f"pass folds={counts[fewest]}, or" if counts[fewest] > 1 else "a probe needs two at least:"
        raise InputError(
            f"label {fewest} has {counts[fewest]} groups, fewer than {folds} folds: {advice} bring more groups"
        )
    if len(np.unique(groups)) == len(y):  # the same, and much faster
        return row_folds(y, folds, seed)
    # Stratification is by rows, so folds of very unequal groups may miss a class: other shuffles are tried then.
    for attempt in range(20):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + 1000 * attempt)
        splits = list(splitter.split(y, y, groups))
        if all(len(np.unique(y[train])) == 2 and len(test) for train, test in splits):
            return splits
    raise InputError(f"no {folds} folds of these groups leave both classes to train on: pass fewer folds")


def row_folds(y: Bool[np.ndarray, " n"], folds: int, seed: int) -> Splits:
    """Rows to train on and rows held out with no regard to groups, as the control task wants them."""
    from sklearn.model_selection import StratifiedKFold

    return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(y, y))


def permuted(
    y: Bool[np.ndarray, " n"], groups: Int[np.ndarray, " n"], rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Labels permuted as chance could have dealt them.

    Where all rows of a group have one label, groups swap labels; where labels differ within groups, rows swap them
    within their group.
    """
    first, inverse = np.unique(groups, return_index=True, return_inverse=True)[1:]
    if (y == y[first][inverse]).all():
        return rng.permutation(y[first])[inverse]
    order = np.lexsort((rng.random(len(y)), groups))
    out = np.empty_like(y)
    out[np.argsort(groups, kind="stable")] = y[order]
    return out


def control_labels(
    y: Bool[np.ndarray, " n"], groups: Int[np.ndarray, " n"], rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """One label at random for each group, True for as many as in `y` (Hewitt and Liang 2019, arXiv 1909.03368)."""
    kinds, inverse = np.unique(groups, return_inverse=True)
    share = np.bincount(inverse, y) / np.bincount(inverse)
    chosen = np.arange(len(kinds)) < np.clip(round(share.sum()), 1, len(kinds) - 1)
    return rng.permutation(chosen)[inverse]
