"""`probe`: how well a linear classifier reads a label from activations, measured on groups that it has not seen."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Bool
from cmrm_interp.probes.examples import Examples, Groups, Labels, examples_of
from cmrm_interp.probes.fitting import fit, pipeline, predict, strength_of
from cmrm_interp.probes.folds import Splits, control_labels, grouped_folds, permuted, row_folds
from cmrm_interp.probes.result import Cell, ProbeResult
from cmrm_interp.probes.scores import HeldOut, scores_of
from cmrm_interp.probes.settings import Kind, ProbeSettings


def probe(
    activations: Activations,
    labels: Labels,
    groups: Groups | None = None,
    kind: Kind = "logistic",
    seed: int = 0,
    **settings: Any,
) -> ProbeResult:
    """How well a label can be read from activations, at every hook point that they have.

    Nested cross-validation: outer folds hold out whole groups, inner folds (by group, too) choose the penalty, and
    standardisation is learnt on the training rows alone. Beside it the control task of Hewitt and Liang (2019,
    arXiv 1909.03368): each group gets a label at random, and rows are held out with no regard to groups, so that a
    probe which memorises groups does well on it. Selectivity is the accuracy on the labels over those same folds less
    the accuracy of the control.

    Intervals are 95 % percentile bootstraps over groups of the held-out predictions (Wilson's over groups where there
    is no error, of which a bootstrap makes nothing). They say how much the score would vary with
    other held-out groups, not with other training data; with fewer than about 20 groups they are too narrow.

    Args:
        activations: one row a prompt, as `Model.capture` gives them.
        labels: True or False (1 or 0) for each row.
        groups: what each row was made from (word, template, image); no group is trained and tested on. None puts each
            row in a group of its own, which is right only if rows share nothing that gives the label away.
        kind: ``logistic`` (L2), ``mean_difference`` (mass-mean, arXiv 2310.06824) or ``lda`` (Ledoit-Wolf shrinkage).
        seed: of folds, control labels, permutations and resamples.
        **settings: the other fields of `ProbeSettings`: ``folds=5``, ``inner_folds=3``, ``strengths``, ``positions``,
            ``calibrate``, ``controls=1``, ``permutations=0``, ``resamples=1000``.

    Returns:
        ``.table()``, ``.plot()``, ``.best()``, ``.plot_calibration(hook)``.

    Raises:
        InputError: one class only, labels that are not two kinds, fewer groups than folds, NaN activations, several
            positions without a choice, a setting that there is not.
        MismatchError: another number of labels or groups than rows.
    """
    from tqdm.auto import tqdm

    how = ProbeSettings.of(kind=kind, seed=seed, **settings)
    parts = examples_of(activations, labels, groups, how.positions)
    for part in parts:  # all of them before the first is fitted, which may take long
        grouped_folds(part.y, part.groups, how.folds, seed)
    cells = [_cell(part.wide(), how) for part in tqdm(parts, "probes", leave=False, disable=len(parts) < 2)]
    return ProbeResult(tuple(cells), how, activations.model)


@dataclass(frozen=True)
class _Crossed:
    held: HeldOut
    strengths: tuple[float | None, ...]


def _cell(part: Examples, how: ProbeSettings) -> Cell:
    main = _cross(part, part.y, grouped_folds(part.y, part.groups, how.folds, how.seed), how)
    seen, control = _control(part, how) if how.controls else (None, None)
    p = _p_value(part, how) if how.permutations else None
    return Cell(part.hook, part.position, main.held, seen, control, p, main.strengths)


def _cross(part: Examples, y: Bool[np.ndarray, " n"], splits: Splits, how: ProbeSettings) -> _Crossed:
    score, probability, fold = np.zeros(len(y)), np.zeros(len(y)), np.zeros(len(y), int)
    strengths = []
    for number, (train, test) in enumerate(splits):
        classifier = fit(part.x[train], y[train], part.groups[train], how)
        score[test], probability[test] = predict(classifier, part.x[test])
        fold[test] = number
        strengths.append(strength_of(classifier))
    return _Crossed(HeldOut(y, score, probability, fold, part.groups), tuple(strengths))


def _control(part: Examples, how: ProbeSettings) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are classified right, on folds that share groups: with their labels, and with random ones."""
    # Groups recur in these folds, so the inner ones may not keep them together either.
    rows = Examples(part.hook, part.position, part.x, part.y, np.arange(len(part.y)), part.shape)
    seen = _cross(rows, part.y, row_folds(part.y, how.folds, how.seed), how).held.right
    rng, control = np.random.default_rng(how.seed), np.zeros(len(part.y))
    for _ in range(how.controls):
        y = control_labels(part.y, part.groups, rng)
        control += _cross(rows, y, row_folds(y, how.folds, how.seed), how).held.right / how.controls
    return seen, control


def _p_value(part: Examples, how: ProbeSettings) -> float:
    """Share of label permutations whose held-out AUC is at least the true one's, the identity among them.

    The penalty stays at its middle strength here, for the true labels as well: nothing is chosen by a label, so the
    test is exact and a permutation costs no more than one fit a fold.
    """
    rng = np.random.default_rng(how.seed)
    true = _plain_auc(part, part.y, how)
    drawn = [_plain_auc(part, permuted(part.y, part.groups, rng), how) for _ in range(how.permutations)]
    return (1 + sum(value >= true - 1e-12 for value in drawn)) / (1 + len(drawn))


def _plain_auc(part: Examples, y: Bool[np.ndarray, " n"], how: ProbeSettings) -> float:
    score, fold = np.zeros(len(y)), np.zeros(len(y), int)
    for number, (train, test) in enumerate(grouped_folds(y, part.groups, how.folds, how.seed)):
        score[test] = pipeline(how).fit(part.x[train], y[train]).decision_function(part.x[test])
        fold[test] = number
    return float(scores_of(HeldOut(y, score, score, fold, part.groups))["auc"](np.ones((1, len(y))))[0])
