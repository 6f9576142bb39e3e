"""Null distributions, p values and intervals against scipy and enumeration."""

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cmrm_interp.gap import METRICS, as_is, draw, holm, interval, mahalanobis, mmd2, p_value, shift_agreement


def pairs(n, d, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, d))
    return base + 0.5 * rng.normal(size=(n, d)) + shift, base + 0.5 * rng.normal(size=(n, d))


def test_the_first_draw_is_the_data_then_come_null_and_bootstrap():
    draws = draw(12, permutations=200, resamples=300, seed=3)
    assert draws.signs.shape == draws.orders.shape == draws.weights.shape == (501, 12)
    assert (draws.signs[0] == 1).all()
    assert (draws.orders[0] == np.arange(12)).all()
    assert (draws.weights[0] == 1).all()
    assert (draws.weights[draws.null] == 1).all()
    assert (draws.signs[draws.resampled] == 1).all()
    assert (draws.weights.sum(1) == 12).all()
    assert (np.sort(draws.orders, 1) == np.arange(12)).all()
    assert not draws.exact


def test_equal_seeds_draw_alike_and_others_do_not():
    a, b, c = draw(20, 100, 100, 1), draw(20, 100, 100, 1), draw(20, 100, 100, 2)
    assert (a.signs == b.signs).all()
    assert (a.weights == b.weights).all()
    assert (a.orders == b.orders).all()
    assert (a.signs != c.signs).any()
    assert (a.weights != c.weights).any()
    assert (a.orders != c.orders).any()


def test_few_pairs_have_every_swap_once():
    draws = draw(6, permutations=100)
    assert draws.exact
    assert {tuple(s) for s in draws.signs[draws.null]} == set(itertools.product((1, -1), repeat=6))


@pytest.mark.parametrize("name", [m.name for m in METRICS.values() if m.null == "swapped labels"])
def test_p_values_of_few_pairs_are_those_of_all_swaps_in_scipy(name):
    metric = METRICS[name]
    x, y = pairs(6, 3, 0.4)
    draws = draw(6, permutations=100)

    def statistic(a, b):
        return float(metric.compute(np.asarray(a).T, np.asarray(b).T, as_is(6))[0])

    # scipy swaps entries within rows; here a row is an index, that stands for the state.
    def of_index(i, j):
        both = np.concatenate([x, y])
        return statistic(both[i.astype(int)].T, both[j.astype(int)].T)

    oracle = stats.permutation_test(
        (np.arange(6), np.arange(6) + 6),
        of_index,
        permutation_type="samples",
        alternative=metric.side,
        n_resamples=np.inf,
    )
    values = metric.compute(x, y, draws)
    np.testing.assert_allclose(np.sort(values[draws.null]), np.sort(oracle.null_distribution), rtol=1e-9)
    assert p_value(values, draws, metric.null, metric.side) == pytest.approx(oracle.pvalue)


def test_a_sampled_p_counts_the_data_itself_and_comes_near_the_exact_one():
    x, y = pairs(9, 4, 0.25, seed=1)
    exact, sampled = draw(9, permutations=512), draw(9, permutations=511, seed=5)
    assert exact.exact
    assert not sampled.exact
    p = [p_value(mmd2(x, y, d), d, "swapped labels", "greater") for d in (exact, sampled)]
    assert p[0] == pytest.approx(p[1], abs=0.06)
    far = pairs(9, 4, 50.0)
    assert p_value(mmd2(*far, sampled), sampled, "swapped labels", "greater") >= 1 / 512


def test_sides():
    draws = draw(30, 100, 100)
    values = np.zeros(201)
    values[0], values[draws.null] = -2.0, np.linspace(-3, 0, 100)
    assert p_value(values, draws, "shuffled pairs", "less") == pytest.approx((1 + 34) / 101, abs=0.011)
    assert p_value(values, draws, "shuffled pairs", "greater") == pytest.approx((1 + 67) / 101, abs=0.011)
    assert p_value(values, draws, "shuffled pairs", "two-sided") == pytest.approx((1 + 34) / 101, abs=0.011)


@pytest.mark.parametrize("name", [m.name for m in METRICS.values() if m.null == "swapped labels"])
def test_under_the_null_p_is_uniform(name):
    metric, found = METRICS[name], []
    for seed in range(60):
        x, y = pairs(16, 5, 0.0, seed=100 + seed)
        draws = draw(16, 100, 100, seed)
        found.append(p_value(metric.compute(x, y, draws), draws, metric.null, metric.side))
    # Ties make p of a coarse statistic (accuracy) conservative, never too small.
    assert np.mean(np.array(found) <= 0.1) <= 0.2
    if name != "classifier_accuracy":
        assert stats.kstest(found, "uniform").pvalue > 0.01


def test_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        shift = 1.0 + rng.normal(size=(60, 4))
        draws = draw(60, 100, 400, seed)
        low, high = interval(shift_agreement(shift, np.zeros((60, 4)), draws), draws)
        hits += low <= TRUE_AGREEMENT <= high
    assert hits / 80 >= 0.85


def _agreement():
    rng = np.random.default_rng(7)
    shift = 1.0 + rng.normal(size=(400_000, 4))
    unit = shift / np.linalg.norm(shift, axis=1, keepdims=True)
    return float((unit.mean(0) ** 2).sum())


TRUE_AGREEMENT = _agreement()


def test_the_bootstraps_pull_is_taken_off():
    # With as many dimensions as prompts, means of resamples lie farther apart than those of the prompts.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 60)), rng.normal(size=(40, 60))
    draws = draw(40, 100, 500)
    values = mahalanobis(x, y, draws)
    again = values[draws.resampled]
    assert np.quantile(again, 0.025) > values[0], "the plain percentiles leave the value out"
    low, high = interval(values, draws)
    assert low < values[0] < high
    assert high - low == pytest.approx(np.subtract(*np.quantile(again, [0.975, 0.025])))


def test_a_swap_that_changes_nothing_but_rounding_is_as_extreme_as_the_data():
    draws = draw(30, 100, 100)
    values = np.full(201, 0.7)
    values[draws.null] -= 1e-13
    assert p_value(values, draws, "swapped labels", "greater") == 1


def test_holm_is_statsmodels():
    for n in (1, 2, 7):
        p = np.random.default_rng(n).random(n) ** 3
        p[-1] = p[0]
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
