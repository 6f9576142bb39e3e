"""Costs against bare hooks and closed forms."""

from functools import cache

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.compare.cost import COUNTED, cost, counted, held_bytes, peak_bytes
from cmrm_interp.datasets.suites import organism_anchors, organism_suites
from cmrm_interp.errors import InputError
from cmrm_interp.recipes import CMRM, CaptionInstead, OtherModel, TextOnly

NEW = 8


@cache
def organism():
    return ci.load("organism")


@cache
def prompts():
    return organism_suites("validation", 3)["benign, real"].prompts


def by_hook(recipe):
    """Tokens that go through a block for an answer, in the mean of all blocks, counted by hooks on bare modules."""
    model, total = organism(), []
    blocks = [module for name, module in model.hf.named_modules() if name.split(".")[-2:-1] == ["layers"]]
    blocks = [block for block in blocks if "Llama" in type(block).__name__]
    assert len(blocks) == model.n_layers

    def _count(module, args, out):
        total.append(args[0].shape[0] * args[0].shape[1])

    handles = [block.register_forward_hook(_count) for block in blocks]
    for prompt in prompts():
        inputs = model.prepare([prompt])
        how = {"max_new_tokens": NEW}
        model.generate(inputs, **how) if recipe is None else recipe.generate(model, inputs, **how)
    for handle in handles:
        handle.remove()
    return sum(total) / len(prompts()) / len(blocks)


def test_tokens_are_those_of_bare_hooks():
    model = organism()
    recipes = [
        None,
        TextOnly().fit(model),
        CMRM(level="sample", alpha=0.3).fit(model),
        CaptionInstead("describe the image .", max_new_tokens=4).fit(model),
    ]
    found = [cost(model, recipe, prompts(), {"max_new_tokens": NEW}, rounds=1) for recipe in recipes]
    for recipe, one in zip(recipes, found, strict=True):
        assert one.decoder_tokens == pytest.approx(by_hook(recipe)), recipe
    bare, text, sample, caption = (one.decoder_tokens for one in found)
    assert text < bare < min(sample, caption)
    assert len(prompts()) < COUNTED


def test_ratio_and_numbers_of_the_bare_model():
    found = cost(organism(), None, prompts(), {"max_new_tokens": NEW}, rounds=2)
    assert (found.ratio, found.held_bytes, found.extra_bytes) == (1.0, 0, 0)
    assert found.seconds > 0
    assert 0 < found.new_tokens <= NEW
    assert "profiler" in found.how
    with pytest.raises(InputError, match="a cost is measured on prompts"):
        cost(organism(), None, (), {})


def test_held_bytes_are_those_of_the_tensors():
    model = organism()
    cmrm = CMRM().fit(model, organism_anchors(4))
    assert held_bytes(cmrm) == model.n_layers * model.d_model * 4
    other = OtherModel(model).fit(model)
    own = {t.data_ptr(): t.nbytes for t in (*model.hf.parameters(), *model.hf.buffers())}
    assert held_bytes(other) == sum(own.values())
    assert held_bytes(None) == 0


def test_weights_of_another_model_that_runs_are_held():
    model, other = organism(), ci.load("organism")
    with counted(model) as passed:
        other.generate(other.prepare(prompts()[:1]), max_new_tokens=2)
    decoder = sum(t.nbytes for t in other.network.modules[other.network.blocks[0].path].parameters())
    assert held_bytes(None, passed.others) >= len(other.network.blocks) * decoder
    with counted(model) as passed:
        model.generate(model.prepare(prompts()[:1]), max_new_tokens=2)
    assert held_bytes(None, passed.others) == 0


def test_peak_is_that_of_what_is_held_at_once():
    def _work():
        first = torch.zeros(500, 500)
        first = first + 1  # two at once
        second = torch.ones(250, 500)
        return (first.sum() + second.sum()).item()

    most, _ = peak_bytes(organism(), _work)
    assert 2 * 500 * 500 * 4 <= most < 2.1 * 500 * 500 * 4
