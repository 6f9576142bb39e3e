"""How likely answers are, against Hugging Face's own generation, token by token."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.attacks import answer_loss
from cmrm_interp.errors import InputError, ModelError
from tests.oracles import attacks as oracle
from tests.support import TEXTS, fresh, inputs_of, model_of, twin_of

TARGETS = ["a cake", "dogs and cats", "you"]


# A plain one, positions of three parts, tokens that see later ones, cross-attention, a Q-Former.
@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "paligemma", "mllama", "blip_2"])
def test_as_generated_token_by_token(family):
    model, twin = model_of(family), twin_of(family)
    inputs = inputs_of(model, kind="image")
    found = answer_loss(model, inputs, TARGETS)
    for row, target in enumerate(TARGETS):
        alone = model.prepare([inputs.prompts[row]]).tensors
        ids = model.tokenizer(target, add_special_tokens=False)["input_ids"]
        torch.testing.assert_close(found[row], oracle.forced_loss(twin, alone, ids), rtol=2e-4, atol=2e-4)


def test_batches_and_padding_do_not_matter():
    model = model_of("llava")
    for kind in ("text", "mixed"):
        right = inputs_of(model, side="right", kind=kind)
        found = answer_loss(model, right, TARGETS, batch_size=2)
        alone = [answer_loss(model, model.prepare([p]), t) for p, t in zip(right.prompts, TARGETS, strict=True)]
        torch.testing.assert_close(found, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_likely_is_said():
    model = model_of("llava")
    inputs = model.prepare(TEXTS)
    with pytest.raises(InputError, match="2 targets for 3 prompts: give one text for all"):
        answer_loss(model, inputs, ["a", "b"])
    with pytest.raises(InputError, match="the target '' has no tokens"):
        answer_loss(model, inputs, "")
    with pytest.raises(ModelError, match="loaded without a tokenizer, which targets need"):
        answer_loss(fresh_without_processor(), inputs, "a cake")


def fresh_without_processor():
    return ci.load((fresh("llava").hf, None))
