"""Scores of held-out predictions and their intervals, against scikit-learn and by simulation."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn import metrics

from cmrm_interp.probes.scores import HeldOut, estimates, resampled, scores_of

ONE = np.ones((1, 200))


def held(n=200, seed=0, groups=None, folds=1, ties=False):
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.4
    score = rng.normal(size=n) + y
    score = np.round(score, 0) if ties else score
    return HeldOut(y, score, expit(score), np.arange(n) % folds, np.arange(n) if groups is None else groups)


@pytest.mark.parametrize("ties", [False, True])
def test_scores_are_those_of_scikit_learn(ties):
    rows = held(ties=ties)
    called = rows.probability > 0.5
    wanted = {
        "auc": metrics.roc_auc_score(rows.y, rows.score),
        "accuracy": metrics.accuracy_score(rows.y, called),
        "balanced accuracy": metrics.balanced_accuracy_score(rows.y, called),
        "log loss": metrics.log_loss(rows.y, rows.probability),
        "brier": metrics.brier_score_loss(rows.y, rows.probability),
    }
    found = scores_of(rows)
    for name, value in wanted.items():
        assert found[name](ONE)[0] == pytest.approx(value, abs=1e-12), name


def test_weights_are_rows_that_come_several_times():
    rows, rng = held(ties=True), np.random.default_rng(1)
    counts = rng.integers(0, 4, 200)
    again = np.repeat(np.arange(200), counts)
    same = HeldOut(*(getattr(rows, name)[again] for name in ("y", "score", "probability", "fold", "groups")))
    for name, score in scores_of(rows).items():
        repeated = scores_of(same)[name](np.ones((1, len(again))))
        assert score(counts[None].astype(float)) == pytest.approx(repeated, abs=1e-12), name


def test_the_auc_compares_rows_within_a_fold():
    rows = held(folds=4)
    shifted = HeldOut(rows.y, rows.score + 100 * rows.fold, rows.probability, rows.fold, rows.groups)
    assert scores_of(shifted)["auc"](ONE) == pytest.approx(scores_of(rows)["auc"](ONE))
    pairs = [
        (metrics.roc_auc_score(rows.y[f], rows.score[f]), rows.y[f].sum() * (~rows.y[f]).sum())
        for f in (rows.fold == k for k in range(4))
    ]
    values, weights = zip(*pairs, strict=True)
    assert scores_of(rows)["auc"](ONE)[0] == pytest.approx(np.average(values, weights=weights))


def test_the_calibration_error_by_hand_and_of_a_calibrated_and_an_over_confident_classifier():
    p = np.array([0.05, 0.05, 0.95, 0.95])
    tiny = HeldOut(np.array([False, True, True, True]), p, p, np.zeros(4, int), np.arange(4))
    assert scores_of(tiny)["ece"](np.ones((1, 4)))[0] == pytest.approx((2 * 0.45 + 2 * 0.05) / 4)
    rng = np.random.default_rng(0)
    logit = rng.normal(size=40_000)
    y, zeros = rng.random(40_000) < expit(logit), np.zeros(40_000, int)
    error = [
        scores_of(HeldOut(y, s, expit(s), zeros, np.arange(40_000)))["ece"](np.ones((1, 40_000)))[0]
        for s in (logit, 4 * logit)
    ]
    assert error[0] < 0.01
    assert error[1] > 0.1


def test_intervals_of_independent_rows_cover_as_often_as_they_say():
    n, d, inside = 300, 1.0, {"auc": 0, "accuracy": 0}
    true = {"auc": norm.cdf(d / np.sqrt(2)), "accuracy": norm.cdf(d / 2)}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y = np.arange(n) % 2 == 0
        score = rng.normal(size=n) + d * (y - 0.5)
        rows = HeldOut(y, score, expit(score), np.zeros(n, int), np.arange(n))
        found = estimates({k: scores_of(rows)[k] for k in inside}, rows, 200, seed)
        for name in inside:
            inside[name] += found[name].low <= true[name] <= found[name].high
    # 0.95 of 100; the binomial's 0.1 % point is 87.
    assert min(inside.values()) >= 87, inside


def test_intervals_of_rows_in_groups_are_as_wide_as_groups_make_them():
    values, groups = np.repeat(np.random.default_rng(0).normal(size=50), 20), np.repeat(np.arange(50), 20)
    rows = HeldOut(values > 0, values, expit(values), np.zeros(1000, int), groups)
    loose = HeldOut(rows.y, rows.score, rows.probability, rows.fold, np.arange(1000))
    wide, narrow = (estimates({"m": scores_of(r)["log loss"]}, r, 500, 0)["m"] for r in (rows, loose))
    assert 3 < (wide.high - wide.low) / (narrow.high - narrow.low) < 6  # the root of 20 is 4.5
    with_groups = resampled([lambda w: w @ values / w.sum(1)], groups, 4000, 0)[0].std()
    assert with_groups == pytest.approx(values.std() / np.sqrt(50), rel=0.05)


def test_no_error_is_no_certainty():
    y = np.arange(40) % 2 == 0
    rows = HeldOut(y, y - 0.5, y * 0.98 + 0.01, np.zeros(40, int), np.arange(40) // 4 * 2 + y)
    found = estimates(scores_of(rows), rows, 200, 0)
    assert rows.n_groups == 20
    assert rows.n_scarce == 10
    for name, n in (("accuracy", 20), ("auc", 10), ("balanced accuracy", 10)):
        z2 = norm.ppf(0.975) ** 2
        assert found[name].low == pytest.approx(n / (n + z2))  # Wilson's interval of n in n
        assert found[name].high == 1.0
