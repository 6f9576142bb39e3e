"""Directions and model of different precision."""

import pytest
import torch

import cmrm_interp as ci
from tests.support import network

POST = "blocks.1.hook_resid_post"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["ProjectOut", "Clamp", "Add"])
def test_directions_in_fp32_on_a_model_of_any_precision(kind, dtype):
    hf, tokenizer = network("llama")
    model = ci.load((hf.to(dtype), tokenizer))
    # One prompt: eager attention in fp64 turns padding into NaN, which is transformers' own.
    inputs = model.prepare("what is in the picture ?")
    v = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    acting = {
        "ProjectOut": lambda d: ci.ProjectOut(d),
        "Clamp": lambda d: ci.Clamp(d, 0.5, 0.5),
        "Add": lambda d: ci.Add(d, 0.7, positions="all"),
    }[kind](ci.Directions({POST: v}))
    plain, edited = (model.capture(inputs, POST, "all", acts).selected(POST) for acts in ((), acting))
    x, unit = plain.double(), v.double() / v.double().norm()
    wanted = {
        "ProjectOut": x - (x @ unit)[:, None] * unit,
        "Clamp": x + (0.5 - x @ unit)[:, None] * unit,
        "Add": x + 0.7 * v.double(),
    }[kind]
    assert edited.dtype == dtype
    # The basis itself is worked out in fp32.
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    torch.testing.assert_close(edited.double(), wanted, rtol=tolerance, atol=tolerance)
