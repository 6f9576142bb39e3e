"""How directions are found: against closed forms, numpy and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

import cmrm_interp as ci
from cmrm_interp.errors import InputError, MismatchError
from tests.support import FAMILIES, STREAM, close, fresh, inputs_of, model_of, same, unchecked

A = "blocks.0.hook_resid_post"
D = 8


def acts(values, mask=None, model=None):
    positions = "last" if mask is None else "all"
    return ci.Activations({A: torch.as_tensor(values, dtype=torch.float32)}, positions, mask, {}, model)


def paired(noise=0.01, n=200, seed=0):
    """Rows that differ by ``m`` and a little noise: ``(a, b, m)``."""
    rng = np.random.default_rng(seed)
    m, b = rng.normal(size=D), rng.normal(size=(n, D))
    return acts(b + m + noise * rng.normal(size=(n, D))), acts(b), torch.tensor(m, dtype=torch.float32)


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_difference_is_that_of_numpy(family):
    model = model_of(family)
    a, b = (model.capture(i, STREAM) for i in (inputs_of(model), model.prepare(["red", "blue"])))
    shift = ci.mean_diff(a, b)
    assert list(shift) == list(a)
    assert shift.model == model.fingerprint
    for name in a:
        close(shift[name], torch.tensor(a[name].numpy().mean(0) - b[name].numpy().mean(0)))


def test_swapping_the_pair_negates_the_direction():
    a, b, _ = paired()
    for how in (ci.mean_diff, ci.difference, ci.principal_direction):
        same(how(a, b)[A], -how(b, a)[A])


def test_a_mean_leaves_padding_out():
    mask = torch.tensor([[True, True], [False, True]])
    a = acts([[[1.0, 0], [3, 0]], [[1000, 1000], [5, 0]]], mask)
    same(ci.mean_diff(a, acts([[0.0, 0]]))[A], torch.tensor([3.0, 0.0]))


def test_a_mean_is_accumulated_in_more_than_fp32():
    big = acts(np.concatenate([np.full((4000, 1), 1e8), np.full((1, 1), 5.0), np.full((4000, 1), -1e8)]))
    close(ci.mean_diff(big, acts([[0.0]]))[A], torch.tensor([5.0 / 8001]))


def test_the_mean_difference_is_the_mean_of_the_differences():
    a, b, _ = paired()
    each = ci.difference(a, b)
    assert each.rows == "batch"
    close(each[A].mean(0), ci.mean_diff(a, b)[A])


def test_the_uncentred_component_is_the_shift_and_the_centred_one_is_not():
    a, b, m = paired()
    assert cosine(ci.principal_direction(a, b)[A], m) > 0.9999
    assert abs(cosine(ci.principal_direction(a, b, center=True)[A], m)) < 0.95


@pytest.mark.parametrize("sign", [1, -1])
def test_a_component_points_the_way_the_mean_does(sign):
    for seed in range(6):
        a, b, m = paired(noise=0.5, seed=seed)
        first, second = (a, b) if sign > 0 else (b, a)
        for center in (False, True):
            v = ci.principal_direction(first, second, center=center)[A]
            assert float(v @ (first[A] - second[A]).mean(0)) >= 0
    assert cosine(ci.principal_direction(first, second)[A], sign * m) > 0.9


def test_scales():
    a, b, m = paired(noise=0.3)
    d = (a[A] - b[A]).double()
    unit = ci.principal_direction(a, b, scale="unit")[A]
    along = d @ unit.double()
    close(unit.norm(), torch.tensor(1.0))
    close(ci.principal_direction(a, b)[A].norm(), along.mean().float())
    close(ci.principal_direction(a, b, scale="projection_std")[A].norm(), along.std().float())
    assert float(ci.principal_direction(a, b)[A].norm()) == pytest.approx(float(m.norm()), rel=0.05)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_centred_components_are_those_of_scikit_learn(k):
    a, b, _ = paired(noise=1.0, n=40)
    got = ci.principal_direction(a, b, k=k, center=True, scale="unit")
    wanted = torch.tensor(PCA(k).fit((a[A] - b[A]).numpy()).components_)
    overlap = got[A].reshape(k, -1) @ wanted.T
    torch.testing.assert_close(overlap.abs(), torch.eye(k), rtol=0, atol=1e-3)
    assert got.rows == ("one" if k == 1 else "subspace")


def test_uncentred_components_are_those_of_numpy():
    a, b, _ = paired(noise=1.0, n=40)
    got = ci.principal_direction(a, b, k=3)[A]
    _, _, vectors = np.linalg.svd((a[A] - b[A]).numpy(), full_matrices=False)
    torch.testing.assert_close((got @ torch.tensor(vectors[:3]).T).abs(), torch.eye(3), rtol=0, atol=1e-3)
    close(got @ got.T, torch.eye(3))


@pytest.mark.parametrize("k", [0, 5, 9])
def test_as_many_directions_as_there_are(k):
    a, b, _ = paired(n=4)
    with pytest.raises(InputError, match=f"k = {k} directions from 4 rows: k goes from 1"):
        ci.principal_direction(a, b, k=k)


def test_an_unknown_scale():
    a, b, _ = paired(n=4)
    with unchecked(), pytest.raises(InputError, match="no scale 'norm': use unit, projection_mean, projection_std"):
        ci.principal_direction(a, b, scale="norm")


def test_what_does_not_pair():
    one, two = acts(np.ones((2, D))), acts(np.ones((3, D)))
    with pytest.raises(MismatchError, match="2 and 3 rows are not pairs"):
        ci.difference(one, two)
    with pytest.raises(MismatchError, match=rf"shapes \({D},\) and \(4,\) at '{A}'"):
        ci.mean_diff(one, acts(np.ones((2, 4))))
    with pytest.raises(MismatchError, match=r"activations of different models \(x and y\)"):
        ci.mean_diff(acts(np.ones((2, D)), model="x"), acts(np.ones((2, D)), model="y"))
    several = acts(np.ones((2, 3, D)), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(MismatchError, match="at a single position: capture positions='last'"):
        ci.difference(several, several)
    with pytest.raises(InputError, match=r"no activations at .*: the position .*chose no tokens"):
        ci.mean_diff(acts(np.ones((2, 3, D)), torch.zeros(2, 3, dtype=torch.bool)), one)
    model = model_of("llama")
    with pytest.raises(MismatchError, match="activations of different hook points: 4 and 1"):
        ci.mean_diff(model.capture(inputs_of(model), STREAM), one)


def test_models_are_told_apart_by_their_weights():
    one, other, again = fresh("llama"), fresh("llama", seed=1), fresh("llama")
    assert one.fingerprint == again.fingerprint != other.fingerprint
    a, b = (model.capture(inputs_of(model), STREAM) for model in (one, other))
    with pytest.raises(MismatchError, match="activations of different models"):
        ci.mean_diff(a, b)


def test_means_are_of_activations():
    with (
        unchecked(),
        pytest.raises(InputError, match=r"activations is a PromptInputs: give what model\.capture returned"),
    ):
        ci.mean_diff(*[model_of("llava").prepare("red")] * 2)
