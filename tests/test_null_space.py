"""Null spaces and ridge maps: against NumPy, SciPy, scikit-learn and pseudo-inverses."""

import numpy as np
import pytest
import torch
from scipy.linalg import null_space, subspace_angles
from sklearn.linear_model import Ridge

import cmrm_interp as ci
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.null_space import null_space_basis, ridge_map, second_moments
from tests.support import unchecked

A = "blocks.0.hook_resid_post"
D = 12


def rows(n, rank=D, seed=0):
    """Rows that span `rank` of D dimensions."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, rank)) @ rng.normal(size=(rank, D))


def moment(x):
    return torch.tensor(x.T @ x / len(x))


def acts(x, mask=None):
    return ci.Activations({A: torch.tensor(x, dtype=torch.float32)}, "last" if mask is None else "all", mask)


def test_a_second_moment_is_that_of_numpy_and_uncentred():
    x = rows(30) + 5
    found = second_moments(acts(x))[A]
    torch.testing.assert_close(found, moment(x), rtol=1e-5, atol=1e-4)
    batches = second_moments(acts(part) for part in np.split(x, [4, 11]))[A]
    torch.testing.assert_close(batches, found)


def test_padding_does_not_count():
    x, mask = rows(6).reshape(2, 3, D), torch.tensor([[True, True, False], [True, False, False]])
    torch.testing.assert_close(second_moments(acts(x, mask))[A], moment(x[mask.numpy()]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 5, 11])
def test_the_null_space_is_that_of_scipy(rank):
    x = rows(40, rank)
    basis = null_space_basis(moment(x)).numpy()
    wanted = null_space(x, rcond=1e-9)
    assert basis.shape == (D - rank, D)
    np.testing.assert_allclose(basis @ basis.T, np.eye(D - rank), atol=1e-12)
    assert subspace_angles(basis.T, wanted).max() < 1e-6
    np.testing.assert_allclose(x @ basis.T, 0, atol=1e-6)


def test_a_size_takes_the_smallest_directions():
    x = rows(50) * np.linspace(0.1, 3, D)
    basis = null_space_basis(moment(x), size=4).numpy()
    wanted = np.linalg.svd(x)[2][-4:]
    assert subspace_angles(basis.T, wanted.T).max() < 1e-6


def test_a_tolerance_is_a_share_of_the_largest_eigenvalue():
    values = torch.tensor([8.0, 4.0, 0.8, 0.04], dtype=torch.float64)
    sizes = [null_space_basis(torch.diag(values * 1e6), t).shape[0] for t in (0.01, 0.2, 0.6)]
    assert sizes == [1, 2, 3]


def test_the_map_is_the_published_one():
    """The released code's: pseudo-inverse of ``P X^T X P + a P``; ours has none."""
    x, target, basis = rows(20), rows(20, seed=1)[:, :5], null_space_basis(moment(rows(30, 7, 2)))
    p = (basis.T @ basis).numpy()
    z = x @ p
    for ridge in (0.3, 10.0):
        wanted = p @ np.linalg.pinv(z.T @ z + ridge * p @ p, rcond=1e-10) @ z.T @ target
        got = ridge_map(torch.tensor(x), torch.tensor(target), ridge, basis)
        np.testing.assert_allclose(got.numpy(), wanted.T, rtol=1e-7, atol=1e-9)


def test_without_a_basis_it_is_ridge_regression():
    x, target = rows(25), rows(25, seed=3)
    got = ridge_map(torch.tensor(x), torch.tensor(target), 2.5)
    np.testing.assert_allclose(got.numpy(), Ridge(2.5, fit_intercept=False).fit(x, target).coef_, rtol=1e-8, atol=1e-9)
    least = ridge_map(torch.tensor(x), torch.tensor(target), 0.0)
    np.testing.assert_allclose(least.numpy().T, np.linalg.lstsq(x, target)[0], atol=1e-8)


def test_benign_rows_stay_and_others_reach_the_target():
    benign, harmful, r = rows(30, 7, 2), rows(4, seed=5), torch.tensor(rows(1, seed=6)[0])
    found = ridge_map(torch.tensor(harmful), r, 1e-9, null_space_basis(moment(benign)))
    np.testing.assert_allclose(benign @ found.numpy().T, 0, atol=1e-5)
    np.testing.assert_allclose(harmful @ found.numpy().T, np.tile(r, (4, 1)), atol=1e-4)
    assert np.linalg.matrix_rank(found.numpy(), rtol=1e-6) == 1


def test_what_cannot_be_is_refused():
    full, x = moment(rows(40)), torch.tensor(rows(4))
    for act, error, words in (
        (lambda: null_space_basis(full), InputError, r"null space is empty: no eigenvalue is below 1e-06 .* larger"),
        (lambda: null_space_basis(full, size=0), InputError, "a null space of 0 directions: give size= from 1 to 11"),
        (lambda: null_space_basis(full, 2.0), InputError, "has 12 of 12 dimensions, and so everything is in it"),
        (lambda: null_space_basis(full, size=12), InputError, "everything is in it: give a smaller tolerance"),
        (lambda: null_space_basis(full * 0), InputError, "all zero"),
        (lambda: null_space_basis(full * float("nan")), InputError, "activations are not finite"),
        (
            lambda: ridge_map(x * float("nan"), x, 1.0),
            InputError,
            "4 activations and their targets: .* all of them fin",
        ),
        (lambda: ridge_map(x[:0], x[0], 1.0), InputError, "0 activations and their targets: a map is fitted on some"),
        (lambda: ridge_map(x, x, 0.0), InputError, "4 activations do not span the 12 dimensions .* add ridge > 0"),
        (lambda: ridge_map(x, x, -1.0), InputError, "ridge is -1.0: give 0 or a positive number"),
        (lambda: ridge_map(x, x[:3], 1.0), MismatchError, r"activations \(4, 12\), targets \(3, 12\)"),
        (lambda: second_moments([]), InputError, "no activations, so no second moment"),
    ):
        with unchecked(), pytest.raises(error, match=words):
            act()
