"""Activations: plain values that slice, save and join."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.activations import concatenate
from cmrm_interp.errors import HookPointError, MismatchError, StoreError
from tests.support import FAMILIES, STREAM, inputs_of, model_of, reachable, same, vectors

POST = "blocks.1.hook_resid_post"


@pytest.mark.parametrize("position", ["last", "all", "text", "image", 1, slice(1, -2), slice(None, 2)], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_save_then_load_is_equality(family, position, tmp_path):
    model = model_of(family)
    inputs = inputs_of(model, kind="image")
    acts = model.capture(inputs, reachable(model), position)
    acts.save(tmp_path / "a.safetensors")
    again = ci.Activations.load(tmp_path / "a.safetensors")
    assert again == acts
    assert (again.positions, again.model, list(again)) == (position, model.fingerprint, list(acts))
    assert set(again.patch_masks) == set(acts.patch_masks)


def test_equality_sees_every_bit():
    model = model_of("llama")
    acts = model.capture(inputs_of(model), STREAM)
    other = acts.map(lambda x, name: x + 1e-6 * (name == POST))
    assert acts == acts.map(lambda x, name: x.clone())
    assert acts != other


def test_rows_are_rows_of_everything():
    model = model_of("llama")
    acts = model.capture(inputs_of(model), STREAM, "all")
    part = acts.rows(slice(1, 3))
    same(part[POST], acts[POST][1:3])
    same(part.mask, acts.mask[1:3])
    assert part.n_rows == 2
    same(acts.rows([2, 0])[POST], acts[POST][[2, 0]])


def test_names_and_patterns():
    model = model_of("llama")
    acts = model.capture(inputs_of(model), STREAM)
    same(acts["blocks.-1.hook_resid_post"], acts["blocks.3.hook_resid_post"])
    with pytest.raises(HookPointError, match=r"means 4 hook points here: blocks.0"):
        acts[STREAM]
    with pytest.raises(HookPointError, match=r"no hook point 'blocks.0.hook_resid_pre': the nearest are"):
        acts["blocks.0.hook_resid_pre"]


def test_casting_leaves_masks():
    model = model_of("llama")
    acts = model.capture(inputs_of(model), STREAM, "all").to(torch.float64)
    assert acts[POST].dtype == torch.float64
    assert acts.mask.dtype == torch.bool


def test_what_cannot_be_joined():
    model = model_of("llama")
    last, every = (model.capture(inputs_of(model), STREAM, p) for p in ("last", "all"))
    with pytest.raises(MismatchError, match="different hook points or positions and cannot be joined"):
        concatenate([last, every])


def test_a_file_of_another_kind(tmp_path):
    vectors(model_of("llama")).save(tmp_path / "v.safetensors")
    with pytest.raises(StoreError, match="holds 'directions', not 'activations'"):
        ci.Activations.load(tmp_path / "v.safetensors")
