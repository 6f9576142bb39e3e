"""Logits of several prompts mixed: against a loop that runs every prompt from scratch for each token."""

from dataclasses import replace

import pytest
import torch
from transformers import LogitsProcessor, SuppressTokensLogitsProcessor

from cmrm_interp.errors import InputError, MismatchError, ModelError
from cmrm_interp.recipes import CoCA
from cmrm_interp.recipes.mixing import generate_mixed
from tests.oracles import decoding as oracle
from tests.support import TEXTS, fresh, inputs_of, model_of, picture, twin_of, unchecked

NEW = 6
PRINCIPLE = "you are kind please can you help me"


def first(scores):
    return scores[:, 0]


def coca(family, **settings):
    model = model_of(family)
    return model, CoCA(**{"alpha": 2.0, "principle": PRINCIPLE, **settings}).fit(model)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_every_token_is_the_oracles(family):
    model, recipe = coca(family)
    inputs, hf = inputs_of(model), twin_of(family)
    # A random model's image token would stand for an image that there is not.
    never = [model.hf.config.image_token_id]
    said = recipe.generate(model, inputs, max_new_tokens=NEW, suppress_tokens=never)
    for prompt, answer in zip(inputs.prompts, said, strict=True):
        told = replace(prompt, text=f"{prompt.text}\n{PRINCIPLE}")
        voices = [(hf, model.prepare([one]).tensors) for one in (told, prompt)]
        ids = oracle.decode(voices, oracle.calibrated(2.0), NEW, never)
        assert model.tokenizer.decode(ids, skip_special_tokens=True) == answer
    assert said != model.generate(inputs, max_new_tokens=NEW, suppress_tokens=never)


def test_the_amount_matters_and_none_is_the_principle_alone():
    model, recipe = coca("llava")
    inputs = inputs_of(model)
    alone = model.generate(model.prepare([replace(p, text=f"{p.text}\n{PRINCIPLE}") for p in inputs.prompts]))
    assert replace(recipe, alpha=0.0).generate(model, inputs) == alone
    assert recipe.generate(model, inputs) != alone


@pytest.mark.parametrize("family", ["llava", "mllama"])
def test_a_mix_of_one_stream_is_plain_generation(family):
    # A family that takes no batch of unequal numbers of images parts its batches between prompts, not within one.
    model = model_of(family)
    inputs = inputs_of(model, kind="mixed" if model.encoder.mixed else "apart")
    how = {"max_new_tokens": NEW}
    assert generate_mixed(model, [inputs, inputs], first, **how) == model.generate(inputs, **how)
    drawn = {**how, "do_sample": True, "seed": 3}
    assert generate_mixed(model, [inputs, inputs], first, **drawn) == model.generate(inputs, **drawn)
    own = {**how, "do_sample": True, "seed": [5, 6, 7]}
    assert generate_mixed(model, [inputs, inputs], first, batch_size=1, **own) == model.generate(inputs, **own)


def test_batches_keep_the_streams_of_a_prompt_together():
    model, recipe = coca("qwen2_vl")
    inputs = inputs_of(model)
    drawn = {"max_new_tokens": NEW, "do_sample": True, "temperature": 2.0, "seed": 1}
    several = [recipe.generate(model, inputs, batch_size=n, **drawn) for n in (1, 2, "auto")]
    assert several[0] == several[1] == several[2] != recipe.generate(model, inputs, **{**drawn, "seed": 2})


def test_streams_may_have_other_images_or_none():
    model, hf = model_of("llava"), twin_of("llava")
    streams = [model.prepare(TEXTS, picture(0)), model.prepare(TEXTS), model.prepare(TEXTS, picture(1))]
    never = [model.hf.config.image_token_id]
    said = generate_mixed(
        model, streams, lambda scores: scores[:, 0] - scores[:, 1] + scores[:, 2], NEW, suppress_tokens=never
    )
    for row, answer in enumerate(said):
        voices = [(hf, model.prepare([stream.prompts[row]]).tensors) for stream in streams]
        ids = oracle.decode(voices, lambda one, step: (one[0] - one[1] + one[2]).argmax(), NEW, never)
        assert model.tokenizer.decode(ids, skip_special_tokens=True) == answer


class Favoured(LogitsProcessor):
    """Makes one token certain, and notes what it was given."""

    def __init__(self, token):
        self.token, self.seen = token, []

    def __call__(self, input_ids, scores):
        self.seen.append(scores)
        return scores.index_fill(1, torch.tensor([self.token]), 1e4)


def test_an_answer_ends_at_the_end_for_all_its_streams():
    model, recipe = coca("llava")
    inputs, yes = inputs_of(model), model.tokenizer.convert_tokens_to_ids("yes")
    favoured = Favoured(yes)
    said = recipe.generate(model, inputs, max_new_tokens=9, logits_processor=[favoured], eos_token_id=yes)
    assert len(favoured.seen) == 1
    assert [text.replace("yes", "") for text in said] == [""] * 3
    # Other processors are given mixed logits.
    assert torch.equal(favoured.seen[0][::2], favoured.seen[0][1::2])


def test_what_is_forbidden_stays_so():
    model, recipe = coca("llava")
    inputs = inputs_of(model)
    before = recipe.generate(model, inputs, max_new_tokens=3)
    banned = model.tokenizer.convert_tokens_to_ids(before[0].split()[0])
    after = recipe.generate(model, inputs, max_new_tokens=3, suppress_tokens=[banned])
    assert before[0].split()[0] not in " ".join(after).split()
    later = recipe.generate(model, inputs, max_new_tokens=3, logits_processor=[SuppressTokensLogitsProcessor([banned])])
    assert later == after


def test_errors_of_mixing():
    model, recipe = coca("llava")
    inputs = inputs_of(model)
    cases = {
        "num_beams=2: mixed logits make one answer": {"num_beams": 2},
        "num_return_sequences=2": {"num_return_sequences": 2, "do_sample": True, "seed": 0},
        "do_sample=True without a seed: prompts whose logits": {"do_sample": True},
        "2 seeds for 3 prompts": {"do_sample": True, "seed": [1, 2]},
    }
    for words, how in cases.items():
        with pytest.raises(InputError, match=words):
            recipe.generate(model, inputs, **how)
    with pytest.raises(InputError, match="nothing to mix"):
        generate_mixed(model, [], first)
    with pytest.raises(InputError, match="streams of 3, 2 prompts cannot be mixed: row i"):
        generate_mixed(model, [inputs, model.prepare(TEXTS[:2])], first)
    with unchecked(), pytest.raises(MismatchError, match=r"scores of shape \(3,\) for logits of shape \(3, 2, \d+\)"):
        generate_mixed(model, [inputs, inputs], lambda scores: scores[:, 0, 0])
    with pytest.raises(InputError, match=r"no numbers \(NaN\) for 3 prompts"):
        generate_mixed(model, [inputs, inputs], lambda scores: scores[:, 0] * torch.nan)
    with pytest.raises(InputError, match="have no prompts"):
        generate_mixed(model, [model.from_encoding(inputs.tensors)] * 2, first)


def test_families_and_models_that_cannot_be_mixed():
    apart = model_of("mllama")
    with pytest.raises(ModelError, match="different numbers of images in one batch: give every stream"):
        generate_mixed(apart, [apart.prepare(TEXTS, picture(0)), apart.prepare(TEXTS)], first)
    mute = fresh("llava")
    inputs = mute.prepare(TEXTS)
    mute.tokenizer = None
    with pytest.raises(ModelError, match="without a tokenizer"):
        generate_mixed(mute, [inputs, inputs], first)


def test_wording_has_its_places():
    with pytest.raises(InputError, match=r"this text needs the places {text} and {principle}.*it has text"):
        CoCA(joined="{text}")
    with pytest.raises(InputError, match=r"no other .it has answer, principle, text"):
        CoCA(joined="{text} {principle} {answer}")
