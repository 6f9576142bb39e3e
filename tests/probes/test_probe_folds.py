"""Groups stay together, and random labels are random in the right way."""

import numpy as np
import pytest

from cmrm_interp.errors import InputError
from cmrm_interp.probes.folds import control_labels, grouped_folds, permuted


def test_no_group_is_on_both_sides_and_classes_are_spread():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 30, 300)
    y = groups % 2 == 0
    splits = grouped_folds(y, groups, 5, 0)
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(300))
    for train, test in splits:
        assert not set(groups[train]) & set(groups[test])
        assert 0.2 < y[test].mean() < 0.8


def test_the_same_seed_gives_the_same_folds():
    groups = np.repeat(np.arange(20), 3)
    y = groups % 2 == 0
    one, again, other = (np.concatenate([t for _, t in grouped_folds(y, groups, 4, seed)]) for seed in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()


@pytest.mark.parametrize(("has", "advice"), [(3, "pass folds=3, or bring"), (1, "a probe needs two at least: bring")])
def test_fewer_groups_than_folds(has, advice):
    groups = np.repeat(np.arange(10), 4)
    with pytest.raises(InputError, match=f"label True has {has} groups, fewer than 5 folds: {advice} more groups"):
        grouped_folds(groups < has, groups, 5, 0)


def test_permutations_swap_labels_between_groups():
    groups, rng = np.repeat(np.arange(12), np.arange(1, 13)), np.random.default_rng(0)
    y = groups % 3 == 0
    drawn = np.array([permuted(y, groups, rng) for _ in range(400)])
    for group in range(12):
        assert (drawn[:, groups == group].std(axis=1) == 0).all()
    assert (drawn[:, np.unique(groups, return_index=True)[1]].sum(1) == 4).all()
    assert np.abs(drawn.mean(0) - 1 / 3).max() < 0.1


def test_permutations_swap_labels_within_groups_where_they_differ_there():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(10), 6))
    y = rng.random(60) < groups / 10
    drawn = np.array([permuted(y, groups, rng) for _ in range(400)])
    for group in range(10):
        assert (drawn[:, groups == group].sum(1) == y[groups == group].sum()).all()
        assert np.abs(drawn[:, groups == group].mean(0) - y[groups == group].mean()).max() < 0.12


def test_control_labels_are_one_a_group_and_know_nothing_of_the_labels():
    groups, rng = np.repeat(np.arange(40), 5), np.random.default_rng(0)
    y = groups < 10
    drawn = np.array([control_labels(y, groups, rng) for _ in range(400)])
    assert (drawn.reshape(400, 40, 5).std(2) == 0).all()
    assert (drawn.reshape(400, 40, 5)[:, :, 0].sum(1) == 10).all()
    assert np.abs(drawn.mean(0) - 0.25).max() < 0.1


def test_control_labels_count_groups_and_not_rows():
    groups = np.concatenate([np.arange(5), np.repeat(np.arange(5, 45), 20)])
    drawn = control_labels(groups < 5, groups, np.random.default_rng(0))
    assert len(np.unique(groups[drawn])) == 5
