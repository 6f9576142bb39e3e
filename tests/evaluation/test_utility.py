"""Perplexity and KL to the clean model, against bare Hugging Face forwards on a network of one's own."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.evaluation.utility import clean_numbers
from cmrm_interp.recipes import CaptionInstead, Recipe
from tests.oracles import hooks as oracle
from tests.support import FAMILIES, inputs_of, model_of, twin_of, unchecked, vectors

ANSWERS = ["cats and dogs", "a cake", "please tell me what is in the picture"]


def prompts_of(model):
    return list(inputs_of(model).prompts)


@torch.no_grad()
def by_generating(model, twin, prompt, answer):
    """Perplexity of one answer, token by token as generation would have given them, and the first token's logits."""
    tensors = model.prepare([prompt]).tensors
    ids = model.tokenizer(answer, add_special_tokens=False)["input_ids"]
    seen, start = [], tensors["input_ids"].shape[1]

    def forced(input_ids, scores):
        seen.append(scores[0].clone())
        left = torch.full_like(scores, -torch.inf)
        left[:, ids[input_ids.shape[1] - start]] = 0
        return left

    twin.generate(
        **tensors,
        max_new_tokens=len(ids),
        do_sample=False,
        logits_processor=[forced],
        eos_token_id=None,
        pad_token_id=0,
    )
    told = [float(logits.log_softmax(-1)[token]) for logits, token in zip(seen, ids, strict=True)]
    return math.exp(-sum(told) / len(told)), seen[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_perplexity_is_that_of_generation_token_by_token(family):
    model, twin = model_of(family), twin_of(family)
    prompts = prompts_of(model)
    found = clean_numbers(model, None, prompts, ANSWERS)
    for row, prompt, answer in zip(found, prompts, ANSWERS, strict=True):
        expected, _ = by_generating(model, twin, prompt, answer)
        assert row == {"perplexity": pytest.approx(expected, rel=2e-4), "kl": 0.0}


@dataclass(frozen=True)
class Moved(Recipe):
    """Adds a vector at the last token of a block, as few recipes do."""

    shift: ci.Directions

    def fit(self, model, anchors=()):
        return replace(self, model=model.fingerprint)

    def interventions(self, model, inputs):
        self.check_model(model)
        return [ci.Add(self.shift, positions="last")]


HOOK = "blocks.0.hook_resid_post"


@torch.no_grad()
@pytest.mark.parametrize("family", ["llava", "llama", "qwen2_vl", "paligemma", "mllama"])
def test_kl_is_that_of_bare_hooks(family):
    model, twin = model_of(family), twin_of(family)
    prompts, recipe = prompts_of(model), Moved(vectors(model, HOOK, scale=2.0)).fit(model)
    found = clean_numbers(model, recipe, prompts, ANSWERS)

    def moved(activation):
        out = activation.clone()
        out[:, -1] += recipe.shift[HOOK]
        return out

    for row, prompt in zip(found, prompts, strict=True):
        tensors = model.prepare([prompt]).tensors
        clean = twin(**tensors).logits[0, -1].log_softmax(-1)
        with oracle.editing(twin, {HOOK: moved}, tensors):
            edited = twin(**tensors).logits[0, -1].log_softmax(-1)
        expected = float(torch.nn.functional.kl_div(edited, clean, log_target=True, reduction="sum"))
        assert expected > 1e-3
        assert row["kl"] == pytest.approx(expected, rel=1e-3)


def test_batches_make_no_difference():
    model = model_of("llava")
    recipe = Moved(vectors(model, HOOK)).fit(model)
    whole, one = (clean_numbers(model, recipe, prompts_of(model), ANSWERS, batch_size=n) for n in (3, 1))
    assert one == [{name: pytest.approx(value, rel=1e-3) for name, value in row.items()} for row in whole]


def test_what_is_not_defined_is_left_out():
    model = model_of("llava")
    caption = CaptionInstead("what is in the picture ?").fit(model)
    found = clean_numbers(model, caption, prompts_of(model), ["", *ANSWERS[1:]])
    assert [set(row) for row in found] == [set(), {"perplexity"}, {"perplexity"}]
    assert clean_numbers(model, None, prompts_of(model)[:1], [""]) == [{"kl": 0.0}]


def test_a_recipe_of_another_model_is_refused():
    model = model_of("llava")
    recipe = Moved(vectors(model, HOOK)).fit(model_of("llama"))
    with pytest.raises(MismatchError, match="was fitted on another model"):
        clean_numbers(model, recipe, prompts_of(model), ANSWERS)


def test_words_of_the_error():
    with unchecked(), pytest.raises(InputError, match="1 answers to 3 prompts: give one answer a prompt"):
        clean_numbers(model_of("llava"), None, prompts_of(model_of("llava")), ["yes"])
