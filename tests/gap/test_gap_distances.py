"""Distances between conditions against closed forms, naive loops, scipy and scikit-learn."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import Ridge
from sklearn.metrics import silhouette_score
from sklearn.metrics.pairwise import rbf_kernel

from cmrm_interp.errors import InputError
from cmrm_interp.gap import (
    cka,
    cka_debiased,
    classifier_accuracy,
    cosine,
    draw,
    interval,
    mahalanobis,
    mmd2,
    paired_cosine,
    silhouette,
)
from cmrm_interp.gap.classifier import predictor
from cmrm_interp.gap.shrinkage import ledoit_wolf


def gaussians(n, d, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + shift, rng.normal(size=(n, d))


def swapped(x, y, signs):
    return np.where(signs[:, None] > 0, x, y), np.where(signs[:, None] > 0, y, x)


def resampled(x, weights):
    return np.repeat(x, weights.astype(int), axis=0)


@pytest.mark.parametrize("metric", [cosine, mahalanobis, mmd2, silhouette, classifier_accuracy])
def test_a_swapped_draw_is_the_metric_of_swapped_states(metric):
    x, y = gaussians(15, 6, 0.6)
    draws = draw(15, 20, 20, seed=2)
    kwargs = {"bandwidth": 2.0} if metric is mmd2 else {}
    values = metric(x, y, draws, **kwargs)
    for row in range(1, 6):
        np.testing.assert_allclose(values[row], metric(*swapped(x, y, draws.signs[row]), **kwargs)[0], rtol=1e-9)


def test_cosines():
    x, y = gaussians(20, 5, 1.0)
    assert cosine(x, y)[0] == pytest.approx(
        x.mean(0) @ y.mean(0) / np.linalg.norm(x.mean(0)) / np.linalg.norm(y.mean(0))
    )
    each = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, y, strict=True)]
    assert paired_cosine(x, y)[0] == pytest.approx(np.mean(each))
    assert paired_cosine(x, 3 * x)[0] == pytest.approx(1)


@pytest.mark.parametrize("metric", [cosine, paired_cosine])
def test_cosines_of_a_resample_are_those_of_the_drawn_prompts(metric):
    x, y = gaussians(20, 5, 1.0)
    draws = draw(20, 5, 5)
    again = metric(x, y, draws)[draws.resampled]
    for value, weights in zip(again, draws.weights[draws.resampled], strict=True):
        assert value == pytest.approx(metric(resampled(x, weights), resampled(y, weights))[0])


@pytest.mark.parametrize(("n", "d"), [(40, 6), (12, 30)])
def test_shrinkage_is_scikit_learns(n, d):
    z = gaussians(n, d)[0] * np.linspace(0.2, 3, d)
    z = z - z.mean(0)
    intensity, variance = ledoit_wolf((z**2).sum(1)[None], np.array([((z @ z.T) ** 2).sum()]), d)
    theirs = LedoitWolf(assume_centered=True).fit(z)
    assert intensity[0] == pytest.approx(theirs.shrinkage_)
    mine = (1 - intensity[0]) * z.T @ z / n + intensity[0] * variance[0] * np.eye(d)
    np.testing.assert_allclose(mine, theirs.covariance_, atol=1e-12)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (12, 30)])
def test_mahalanobis_is_scipys_with_scikit_learns_covariance(n, d):
    x, y = gaussians(n, d, 0.7)
    x, y = x * np.linspace(0.2, 3, d), y * np.linspace(0.2, 3, d)
    within = LedoitWolf(assume_centered=True).fit(np.concatenate([x - x.mean(0), y - y.mean(0)]))
    expected = scipy_mahalanobis(x.mean(0), y.mean(0), np.linalg.inv(within.covariance_))
    assert mahalanobis(x, y)[0] == pytest.approx(expected)
    # A resample moves the means and keeps the covariance.
    draws = draw(n, 5, 5)
    again, weights = mahalanobis(x, y, draws)[draws.resampled], draws.weights[draws.resampled]
    for value, w in zip(again, weights, strict=True):
        means = resampled(x, w).mean(0), resampled(y, w).mean(0)
        assert value == pytest.approx(scipy_mahalanobis(*means, np.linalg.inv(within.covariance_)))


def test_mahalanobis_of_two_gaussians_is_their_distance_in_standard_deviations():
    scales = np.array([0.5, 1.0, 4.0])
    x, y = gaussians(40_000, 3)
    x, y = x * scales + np.array([1.0, 0.0, 8.0]), y * scales
    assert mahalanobis(x, y)[0] == pytest.approx(np.sqrt((1 / 0.5) ** 2 + (8 / 4) ** 2), rel=0.02)


def test_mmd_is_the_naive_double_loop():
    x, y = gaussians(9, 4, 0.5)
    sigma = 1.7

    def k(a, b):
        return float(np.exp(-((a - b) ** 2).sum() / (2 * sigma**2)))

    total = sum(
        k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i]) for i in range(9) for j in range(9) if i != j
    )
    assert mmd2(x, y, bandwidth=sigma)[0] == pytest.approx(total / (9 * 8))


def test_mmd_takes_the_median_distance_of_all_states():
    x, y = gaussians(11, 4, 0.5)
    both = np.concatenate([x, y])
    distances = [np.linalg.norm(both[i] - both[j]) for i in range(22) for j in range(i)]
    assert mmd2(x, y)[0] == pytest.approx(mmd2(x, y, bandwidth=float(np.median(distances)))[0])
    kernel = rbf_kernel(both, gamma=1 / (2 * np.median(distances) ** 2))
    assert kernel[0, 1] == pytest.approx(np.exp(-(distances[0] ** 2) / (2 * np.median(distances) ** 2)))


def test_mmd_of_two_gaussians_is_the_kernels_expectation():
    # E exp(-|u|^2 / (2 s^2)) for u ~ N(m, 2) in d dimensions is (s^2 / (s^2 + 2))^(d/2) exp(-|m|^2 / (2 (s^2 + 2))).
    d, s2, m = 2, 1.5, 1.0
    found = np.mean([mmd2(*gaussians(400, d, m / np.sqrt(d), seed), bandwidth=np.sqrt(s2))[0] for seed in range(12)])
    base = (s2 / (s2 + 2)) ** (d / 2)
    assert found == pytest.approx(2 * base * (1 - np.exp(-(m**2) / (2 * (s2 + 2)))), rel=0.08)
    null = [mmd2(*gaussians(50, d, 0, seed))[0] for seed in range(100)]
    assert abs(np.mean(null)) < 3 * np.std(null) / 10
    assert min(null) < 0


def test_mmd_without_a_bandwidth_is_refused_where_most_states_are_one():
    x = np.zeros((9, 2))
    x[0] = 1
    with pytest.raises(InputError, match=r"bandwidth 0\.0: give a positive one"):
        mmd2(x, x.copy())


def naive_hsic(k, other):
    n = len(k)
    h = np.eye(n) - 1 / n
    return np.trace(k @ h @ other @ h) / n**2


def naive_unbiased(k, other):
    """Mean over all ordered draws of different prompts, by loops."""
    import itertools

    n = len(k)

    def mean(size, term):
        return np.mean([term(*t) for t in itertools.permutations(range(n), size)])

    two = mean(2, lambda i, j: k[i, j] * other[i, j])
    four = mean(4, lambda i, j, q, r: k[i, j] * other[q, r])
    return two + four - 2 * mean(3, lambda i, j, q: k[i, j] * other[i, q])


def song(k, other):
    n = len(k)
    k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
    total = np.trace(k @ other) + k.sum() * other.sum() / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (k @ other).sum()) / (n * (n - 3))


def test_cka_is_the_naive_hsic():
    x, y = gaussians(12, 5)[0], gaussians(12, 3, seed=1)[0]
    k, other = x @ x.T, y @ y.T
    expected = naive_hsic(k, other) / np.sqrt(naive_hsic(k, k) * naive_hsic(other, other))
    assert cka(x, np.pad(y, ((0, 0), (0, 2))))[0] == pytest.approx(expected)
    # Kornblith et al., Eq. 5: linear CKA of centred features is also a ratio of Frobenius norms.
    x, y = x - x.mean(0), y - y.mean(0)
    norms = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    assert expected == pytest.approx(np.linalg.norm(x.T @ y) ** 2 / norms)


def test_debiased_cka_is_songs_and_the_mean_over_different_prompts():
    x, y = gaussians(8, 4)
    k, other = x @ x.T, y @ y.T
    assert song(k, other) == pytest.approx(naive_unbiased(k, other))
    expected = song(k, other) / np.sqrt(song(k, k) * song(other, other))
    assert cka_debiased(x, y)[0] == pytest.approx(expected)


@pytest.mark.parametrize("metric", [cka, cka_debiased])
def test_the_interval_of_cka_covers_that_of_many_prompts(metric):
    def states(n, seed):
        x = gaussians(n, 4, seed=seed)[0]
        return x, x + 0.8 * gaussians(n, 4, seed=seed + 1000)[0] * np.array([1, 0, 2, 1])

    truth, hits = metric(*states(1500, 5))[0], 0
    for seed in range(40):
        draws = draw(80, 100, 200, seed)
        low, high = interval(metric(*states(80, seed), draws), draws)
        hits += low <= truth <= high
    assert hits / 40 >= 0.8


@pytest.mark.parametrize("metric", [cka, cka_debiased])
def test_cka_ignores_rotation_scale_and_shift_and_nothing_else(metric):
    x = gaussians(30, 6)[0]
    rotation = np.linalg.qr(gaussians(6, 6, seed=4)[0])[0]
    assert metric(x, 2.5 * x @ rotation + 7)[0] == pytest.approx(1)
    assert metric(x, x * np.array([9, 1, 1, 1, 1, 1]))[0] < 0.9


@pytest.mark.parametrize("metric", [cka, cka_debiased])
def test_shuffled_draws_are_the_metric_of_shuffled_prompts(metric):
    x, y = gaussians(12, 5)
    draws = draw(12, 20, 20)
    values = metric(x, x + y, draws)
    for row in range(1, 6):
        assert values[row] == pytest.approx(metric(x, (x + y)[draws.orders[row]])[0])


def test_unrelated_states_have_a_debiased_cka_of_zero_and_a_biased_one_far_above():
    found = [(cka(*s)[0], cka_debiased(*s)[0]) for s in (gaussians(30, 60, seed=seed) for seed in range(20))]
    biased, debiased = np.mean(found, axis=0)
    assert biased > 0.5
    assert abs(debiased) < 0.05


def test_silhouette_is_scikit_learns():
    x, y = gaussians(15, 4, 1.0)
    labels = np.repeat([0, 1], 15)
    assert silhouette(x, y)[0] == pytest.approx(silhouette_score(np.concatenate([x, y]), labels))
    assert silhouette(*gaussians(15, 4, 1000.0))[0] == pytest.approx(1, abs=0.01)


def test_predictions_are_those_of_ridge_regression():
    scales = np.linspace(0.2, 3, 7)
    train, test = scales * np.concatenate(gaussians(20, 7, 0.5)), scales * gaussians(5, 7, seed=3)[0]
    labels = np.repeat([1.0, -1.0], 20)
    shrunk = LedoitWolf().fit(train)
    variance = np.trace(shrunk.covariance_) / 7
    alpha = 40 * shrunk.shrinkage_ * variance / (1 - shrunk.shrinkage_)
    theirs = Ridge(alpha=alpha).fit(train, labels).predict(test)
    mine = predictor(train, test) @ labels
    # A ridge of a covariance, and of a sum over 40 rows, differ by a factor in the prediction alone.
    np.testing.assert_allclose(mine / np.linalg.norm(mine), theirs / np.linalg.norm(theirs), atol=1e-9)


def test_classifier_is_at_chance_for_one_distribution_and_certain_for_two():
    chance = [classifier_accuracy(*gaussians(60, 10, 0, seed))[0] for seed in range(30)]
    assert np.mean(chance) == pytest.approx(0.5, abs=0.03)
    assert classifier_accuracy(*gaussians(60, 10, 3.0))[0] > 0.99


def test_no_fold_holds_one_state_of_a_prompt_whose_other_was_learnt():
    # Were a pair split, the other state of a held-out prompt, equal and of the other label, would be the next
    # neighbour, and a classifier with more dimensions than prompts would be wrong on nearly all.
    x = gaussians(40, 400)[0]
    found = classifier_accuracy(x, x + 1e-6 * gaussians(40, 400, seed=1)[0])[0]
    assert 0.25 < found < 0.75


def test_a_sum_of_small_shifts_is_found_by_the_classifier():
    x, y = gaussians(100, 20, 0.35)
    draws = draw(100, 200, 200)
    values = classifier_accuracy(x, y, draws)
    assert values[0] > np.quantile(values[draws.null], 0.99)
