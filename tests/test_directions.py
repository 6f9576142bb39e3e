"""Directions: arithmetic, files, and projections."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import cmrm_interp as ci
from cmrm_interp.errors import CmrmError, HookPointError, InputError, MismatchError, StoreError
from tests.support import STREAM, close, fresh, inputs_of, model_of, same, vectors

A, B = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"


def some(seed=0, **how):
    g = torch.Generator().manual_seed(seed)
    return ci.Directions({name: torch.randn(6, generator=g) for name in (A, B)}, **how)


floats = st.floats(-10, 10, width=32)
matrices = arrays("float32", (5, 4), elements=floats).map(torch.from_numpy)
nonzero = arrays("float32", 4, elements=floats).map(torch.from_numpy).filter(lambda v: v.norm() > 0.1)


@settings(deadline=None)
@given(matrices, nonzero)
def test_project_and_reject_are_an_orthogonal_split(x, v):
    along, rest = ci.project(x, v), ci.reject(x, v)
    torch.testing.assert_close(along + rest, x, rtol=1e-4, atol=1e-4)
    assert float((rest @ (v / v.norm())).abs().max()) < 1e-4
    torch.testing.assert_close(ci.project(along, v), along, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(along, torch.outer(x @ v, v) / (v @ v), rtol=1e-3, atol=1e-4)


@settings(deadline=None)
@given(matrices, nonzero, st.sampled_from([-3.0, 0.01, 100.0]))
def test_a_projection_does_not_depend_on_the_length(x, v, factor):
    torch.testing.assert_close(ci.project(x, factor * v), ci.project(x, v), rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(matrices, st.integers(0, 10_000))
def test_a_projection_on_a_subspace_is_least_squares(x, seed):
    rows = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))
    weights = torch.linalg.lstsq(rows.T, x.T).solution
    torch.testing.assert_close(ci.project(x, rows), (rows.T @ weights).T, rtol=1e-2, atol=1e-2)


def test_projecting_activations_goes_point_by_point():
    model = model_of("llama")
    acts, v = model.capture(inputs_of(model), STREAM, "all"), vectors(model)
    along, rest = ci.project(acts, v), ci.reject(acts, v)
    for name in acts:
        close(along[name], ci.project(acts[name], v[name]))
        close(along[name] + rest[name], acts[name])
    with pytest.raises(MismatchError, match=r"no direction at 'blocks.0.hook_resid_post': these have blocks.1"):
        ci.project(acts, v.at([1]))


def test_arithmetic():
    a, b = some(0), some(1)
    for name in (A, B):
        same((a + b)[name], a[name] + b[name])
        same((a - b)[name], a[name] - b[name])
        same((2.0 * a)[name], (a * 2.0)[name])
        same((2 * a)[name], (2.0 * a)[name])
        same((-a)[name], -a[name])
        close(a.unit()[name].norm(), torch.tensor(1.0))
        close(a.norms()[name], a[name].norm())
        close(ci.cosine(a, -3.0 * a)[name], torch.tensor(-1.0))
    assert a == some(0)
    assert a != b
    with pytest.raises(MismatchError, match="directions of different hook points: 2 and 1"):
        a + b.at([0])


def test_layers_of_directions():
    a = some()
    assert list(a.at([-1])) == list(a.at([1])) == [B]
    with pytest.raises(HookPointError, match=r"no layer 2: this model has 2 layers"):
        a.at([2])
    same(a["blocks.-1.hook_resid_post"], a[B])
    with pytest.raises(HookPointError, match="means 2 hook points here"):
        a["blocks.*.hook_resid_post"]


def test_increments_sum_to_the_shift():
    model = fresh("llama", num_hidden_layers=12)
    v = vectors(model)
    total = torch.zeros(model.d_model)
    for name, step in v.increments().items():
        total = total + step
        torch.testing.assert_close(total, v[name], rtol=1e-4, atol=1e-4)


def test_random_directions_keep_the_norms_and_nothing_else():
    a = some()
    first, again, other = ci.random_like(a, 1), ci.random_like(a, 1), ci.random_like(a, 2)
    assert first == again
    assert first != other
    for name in a:
        close(first[name].norm(), a[name].norm())
    wide = ci.Directions({A: torch.ones(4096)})
    assert abs(float(ci.cosine(wide, ci.random_like(wide, 0))[A])) < 0.1


@pytest.mark.parametrize("rows", ["one", "batch", "subspace", None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_save_then_load_is_equality(rows, dtype, tmp_path):
    names = [f"blocks.{i}.hook_resid_post" for i in range(12)]
    shape = (6,) if rows == "one" else (2, 6)
    a = ci.Directions({n: torch.randn(shape).to(dtype) for n in names}, rows, "a model", "a method")
    a.save(tmp_path / "v.safetensors")
    b = ci.Directions.load(tmp_path / "v.safetensors")
    assert b == a
    assert (list(b), b.rows, b.model, b.method) == (names, rows, "a model", "a method")
    assert b[names[0]].dtype == dtype
    assert b.increments() == a.increments()


def test_files_that_are_not_directions(tmp_path):
    some().save(tmp_path / "good.safetensors")
    data = (tmp_path / "good.safetensors").read_bytes()
    (tmp_path / "flipped.safetensors").write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    (tmp_path / "cut.safetensors").write_bytes(data[:-7])
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"a": torch.ones(2)}, tmp_path / "torch.pt")
    model = model_of("llama")
    model.capture(inputs_of(model), A).save(tmp_path / "acts.safetensors")
    for name, words in {
        "none.safetensors": "none.safetensors does not exist",
        "flipped.safetensors": "flipped.safetensors is corrupt: its checksum does not match",
        "cut.safetensors": "cut.safetensors is ",
        "pickle.safetensors": "is a pickle, which runs code when opened, and is never read",
        "torch.pt": "torch.pt is a pickle, which runs code when opened",
        "acts.safetensors": "acts.safetensors holds 'activations', not 'directions': pass a file of that kind",
    }.items():
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(StoreError, match=words):
            ci.Directions.load(tmp_path / name)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_directions_are_finite(value):
    with pytest.raises(InputError, match=f"the direction at '{A}' has NaN or infinite entries"):
        ci.Directions({A: torch.tensor([1.0, value])})


def test_directions_are_not_empty():
    with pytest.raises(InputError, match=r"directions need at least one hook point: Directions\(\{"):
        ci.Directions({})


@pytest.mark.parametrize("use", [lambda v: v.unit(), lambda v: ci.project(torch.ones(6), v.at([0]))])
def test_a_zero_direction_cannot_be_projected_on(use):
    zero = ci.Directions({A: torch.zeros(6), B: torch.ones(6)})
    with pytest.raises(InputError, match=r"is zero: it cannot be projected on or scaled to length one"):
        use(zero)


def test_widths_that_differ():
    with pytest.raises(MismatchError, match="activations of width 5 and directions of width 6"):
        ci.project(torch.ones(3, 5), some().at([0]))


def test_every_error_is_one_line_of_ours():
    assert issubclass(StoreError, CmrmError)
    assert str(HookPointError("one 'line'")) == "one 'line'"
