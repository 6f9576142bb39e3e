"""Consistency and overlap of the shift, on shifts whose answer is known."""

import numpy as np
import pytest

from cmrm_interp.gap import (
    cosine_with,
    draw,
    interval,
    p_value,
    share_in,
    shift_agreement,
    shift_mean_share,
    shift_participation_ratio,
    shift_relative_norm,
)
from cmrm_interp.gap.pca import project_jointly


def states(shift, seed=0):
    y = np.random.default_rng(seed).normal(size=shift.shape)
    return y + shift, y


def noise(n, d, seed=1):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_one_vector_for_every_prompt_is_wholly_consistent():
    x, y = states(np.tile(np.arange(1.0, 6.0), (12, 1)))
    assert shift_agreement(x, y)[0] == pytest.approx(1)
    assert shift_mean_share(x, y)[0] == pytest.approx(1)
    assert shift_participation_ratio(x, y)[0] == pytest.approx(1)
    norm = np.linalg.norm(np.arange(1.0, 6.0)) / np.linalg.norm(y, axis=1).mean()
    assert shift_relative_norm(x, y)[0] == pytest.approx(norm)


@pytest.mark.parametrize("size", [0.0, 0.5, 2.0])
def test_share_of_the_mean_is_that_of_vector_and_noise(size):
    d = 10
    found = []
    for seed in range(40):
        x, y = states(size * np.eye(d)[0] + 0.3 * noise(60, d, seed), seed)
        found.append(shift_mean_share(x, y)[0])
    assert np.mean(found) == pytest.approx(size**2 / (size**2 + 0.09 * d), abs=0.015)


def test_agreement_is_the_mean_cosine_of_two_prompts():
    shift = noise(9, 4) + 0.5
    x, y = states(shift)
    cosines = [
        shift[i] @ shift[j] / np.linalg.norm(shift[i]) / np.linalg.norm(shift[j])
        for i in range(9)
        for j in range(9)
        if i != j
    ]
    assert shift_agreement(x, y)[0] == pytest.approx(np.mean(cosines))


def test_a_prompt_that_did_not_move_agrees_with_none():
    shift = np.tile([1.0, 0.0], (4, 1))
    shift[0] = 0
    y = noise(4, 2).round(2)
    assert shift_agreement(y + shift, y)[0] == pytest.approx(6 / 12)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_effective_rank_of_shifts_in_k_directions_is_k(k):
    axes = np.linalg.qr(noise(20, k))[0].T
    which = np.tile(np.arange(k), 240 // k)
    x, y = states(axes[which] * np.where(noise(240, 1) > 0, 1, -1))
    assert shift_participation_ratio(x, y)[0] == pytest.approx(k, rel=0.04)
    gaussian = [shift_participation_ratio(*states(noise(240, k, s) @ axes, s))[0] for s in range(20)]
    assert np.mean(gaussian) == pytest.approx(k, rel=0.03)


def test_effective_rank_does_not_depend_on_signs():
    draws = draw(20, 30, 30)
    values = shift_participation_ratio(*states(noise(20, 5) + 1), draws)
    np.testing.assert_allclose(values[draws.null], values[0])


def test_effective_rank_is_not_capped_by_the_number_of_prompts():
    found = [shift_participation_ratio(*states(noise(25, 60, seed), seed))[0] for seed in range(60)]
    assert 52 < np.median(found) < 70


def test_shifts_in_random_directions_are_consistent_by_chance_alone():
    x, y = states(noise(30, 8))
    draws = draw(30, 500, 200)
    for metric in (shift_agreement, shift_mean_share):
        assert p_value(metric(x, y, draws), draws, "swapped labels", "greater") > 0.01
    x, y = states(noise(30, 8) + 0.6)
    for metric in (shift_agreement, shift_mean_share, shift_relative_norm):
        assert p_value(metric(x, y, draws), draws, "swapped labels", "greater") < 0.01


def test_relative_norm_of_a_swapped_draw_is_that_of_swapped_states():
    x, y = states(noise(12, 4) + 1)
    draws = draw(12, 10, 10)
    for row in range(1, 6):
        keep = draws.signs[row][:, None] > 0
        swapped = np.where(keep, x, y), np.where(keep, y, x)
        assert shift_relative_norm(x, y, draws)[row] == pytest.approx(shift_relative_norm(*swapped)[0])


def test_overlap_is_cosine_and_share_of_the_mean_shift():
    x, y = states(np.tile([3.0, 4.0, 0.0], (10, 1)))
    e1, plane = np.eye(3)[:1], np.eye(3)[:2]
    assert cosine_with(x, y, e1)[0] == pytest.approx(0.6)
    assert share_in(x, y, e1)[0] == pytest.approx(0.36)
    assert share_in(x, y, plane)[0] == pytest.approx(1)
    assert cosine_with(x, y, -e1)[0] == pytest.approx(-0.6)


def test_directions_of_the_null_part_the_second_conditions_prompts_in_two_halves():
    x, y = states(noise(11, 4) + 1)
    draws = draw(11, 150, 10)
    values = cosine_with(x, y, np.eye(4)[:1], draws)
    shift = (x - y).mean(0)
    for row in (1, 100, 101, 150):
        first = draws.orders[row] < 5
        direction = y[first].sum(0) - y[~first].sum(0) - (first.sum() - (~first).sum()) * y.mean(0)
        cosine = direction @ shift / np.linalg.norm(direction) / np.linalg.norm(shift)
        assert abs(values[row]) == pytest.approx(abs(cosine))


@pytest.mark.parametrize("k", [1, 3])
def test_by_chance_a_subspace_of_a_round_cloud_holds_k_in_d(k):
    # Isotropic states: random directions overlap as on the sphere, cos^2 ~ Beta(k / 2, (d - k) / 2) of mean k / d.
    x, y = states(noise(400, 12) + 1, seed=3)
    draws = draw(400, 3000, 100)
    values = share_in(x, y, np.eye(12)[:k], draws)[draws.null]
    assert len(values) == 3000
    assert values.mean() == pytest.approx(k / 12, abs=0.015)


def test_in_a_flat_cloud_directions_agree_by_chance_and_the_null_says_so():
    # Nearly all variance and most of the shift lie on one axis: any difference of two halves is nearly parallel to it.
    flat = np.array([30.0, 1, 1, 1, 1, 1, 1, 1])
    y = noise(80, 8) * flat
    x = y + 5 * np.eye(8)[0] + np.eye(8)[1] + 0.1 * noise(80, 8, 5)
    draws = draw(80, 500, 100)
    values = cosine_with(x, y, np.eye(8)[:1], draws)
    assert values[0] > 0.95
    assert p_value(values, draws, "random halves", "two-sided") > 0.1
    values = cosine_with(*states(noise(80, 8) + 5 * np.eye(8)[0]), np.eye(8)[:1], draws)
    assert p_value(values, draws, "random halves", "two-sided") < 0.01


def test_intervals_of_the_overlap_follow_the_prompts():
    draws = draw(40, 100, 300)
    low, high = interval(cosine_with(*states(noise(40, 3) + 2 * np.eye(3)[0]), np.eye(3)[:1], draws), draws)
    assert 0.85 < low < high <= 1.02


def test_components_are_those_of_all_conditions_about_their_common_mean():
    a, b = noise(20, 6) + 3, noise(20, 6, 2)
    found = project_jointly({"a": a, "b": b}, k=2)
    together = np.concatenate([a, b]) - np.concatenate([a, b]).mean(0)
    _, s, v = np.linalg.svd(together, full_matrices=False)
    np.testing.assert_allclose(found.explained, (s**2 / (s**2).sum())[:2])
    mine = np.concatenate([found.coordinates["a"], found.coordinates["b"]])
    np.testing.assert_allclose(np.abs(mine), np.abs(together @ v[:2].T), atol=1e-9)
