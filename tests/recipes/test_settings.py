"""Settings and arguments that mean nothing are refused in words, and none is a silent other method."""

import pytest
import torch
from transformers import GenerationConfig

import cmrm_interp as ci
from cmrm_interp.errors import InputError
from cmrm_interp.recipes import (
    CAST,
    ECSO,
    ETA,
    CaptionInstead,
    CoCA,
    InferAligner,
    NullSteer,
    RefusalDirection,
    RepE,
    SafeDecoding,
    ShiftDC,
    VLMGuard,
)
from cmrm_interp.recipes.mixing import generate_mixed
from cmrm_interp.recipes.safedecoding import leaning
from tests.support import TEXTS, model_of, picture

NAN = float("nan")
HARMFUL = ["how do i make a zorp ?", "tell me how to build a blat", "steps to hurt a cat", "make me a zorp"]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please", "what is in the picture ?", "bake bread", "a cat ?"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        # What nothing is above or below would leave the model without the defence.
        (lambda: InferAligner(bias=NAN), "InferAligner has no bias=nan: use 'midpoint' or a number"),
        (lambda: ETA(image_threshold=NAN), r"ETA\(image_threshold=nan\): nothing is above or below it"),
        (lambda: ETA(answer_threshold=NAN), r"ETA\(answer_threshold=nan\)"),
        (lambda: ETA(weight=NAN), r"ETA\(weight=nan\)"),
        # The highest of NaN or of infinite scores is a token like any other.
        (lambda: CoCA(alpha=NAN), r"CoCA\(alpha=nan\): give a finite number"),
        (lambda: CoCA(alpha=float("inf")), r"CoCA\(alpha=inf\)"),
        (lambda: SafeDecoding(alpha=NAN), r"SafeDecoding\(alpha=nan, .* 0 or more, and finite"),
        (lambda: SafeDecoding(alpha=float("inf")), r"SafeDecoding\(alpha=inf, "),
        (lambda: ECSO(max_chars=-5), r"ECSO\(check_tokens=8, max_chars=-5, max_new_tokens=1024\): each is 1 or more"),
        (lambda: ShiftDC(joined="{text}"), r"ShiftDC\(joined='{text}'\): this text needs the places {text} and"),
        (lambda: CaptionInstead(joined="{caption} {x}"), r"no other \(it has caption, x\)"),
        (lambda: RefusalDirection(positions=0), r"positions=\(0,\): give some, counted from the end"),
    ],
)
def test_what_means_nothing_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize("kind", [CAST, InferAligner, RepE, VLMGuard])
def test_layers_are_kept_as_they_are_now(kind):
    given = [1, 2]
    recipe = kind(layers=given)
    given.append(3)
    assert recipe.layers == (1, 2) == kind(layers=range(1, 3)).layers == kind(layers=iter([1, 2])).layers
    assert kind(layers=1).layers == (1,)


def test_a_recipe_with_a_range_of_layers_is_saved(tmp_path):
    recipe = RepE(layers=range(1, 3)).fit(model_of("llava"), ci.Anchors(HARMFUL, HARMLESS))
    recipe.save(tmp_path / "repe")
    assert RepE.load(tmp_path / "repe").layers == (1, 2)
    assert CAST(condition_layers=2).condition_layers == (2,)
    assert RefusalDirection(positions=-1).positions == (-1,)


def test_one_word_is_no_list_of_letters():
    assert ECSO(yes="yes").yes == ("yes",)
    assert (ETA(yes="Yes").yes, ETA(no="No").no) == (("Yes",), ("No",))


@pytest.mark.parametrize("recipe", [ECSO(), ETA()])
@pytest.mark.parametrize("how", [{"num_return_sequences": 2, "do_sample": True}])
def test_answers_of_one_prompt_are_not_taken_for_those_of_the_next(recipe, how):
    model = model_of("llava")
    # Whether or not any answer is harmful: a text alone never is.
    with pytest.raises(InputError, match="num_return_sequences=2: "):
        recipe.fit(model).generate(model, model.prepare(TEXTS[:2]), max_new_tokens=2, **how)


def test_eta_refuses_beams_before_it_looks():
    model = model_of("llava")
    with pytest.raises(InputError, match="num_beams=2: sentences are drawn one by one here"):
        ETA().fit(model).generate(model, model.prepare(TEXTS[:2]), max_new_tokens=2, num_beams=2)


def test_what_one_voice_may_not_say_is_said_by_none():
    """Forbidden in the second stream alone it has an infinite difference, which would be chosen for certain."""
    model = model_of("llama")
    streams = [model.prepare(text) for text in ("what is this ?", "tell me about cats and dogs")]
    said = generate_mixed(model, streams, lambda s: 2 * s[:, 0] - s[:, 1], max_new_tokens=2, no_repeat_ngram_size=1)
    ids = model.tokenizer(said[0], add_special_tokens=False).input_ids
    assert ids
    assert not {*ids} & {*streams[0].tensors["input_ids"][0].tolist(), *streams[1].tensors["input_ids"][0].tolist()}


def test_an_expert_that_is_sure_of_a_token_outside_leaves_numbers():
    # Of tokens 0 and 1, which both place among their first three, the expert's probabilities are 0 in fp32.
    ours, expert = torch.tensor([[9.0, 8.0, 7.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0, 500.0]])
    found = leaning(ours, expert, 3.0, 2).exp()
    torch.testing.assert_close(found, torch.tensor([[1.0, torch.e**-1, 0.0, 0.0]]) / (1 + torch.e**-1))


def test_nullsteer_leaves_texts_alone():
    model = model_of("llava")
    anchors = ci.Anchors(HARMFUL, HARMLESS).with_images([picture(seed) for seed in range(9)])
    recipe = NullSteer(alpha=5.0, ridge=0.1).fit(model, anchors)
    inputs = model.prepare(TEXTS, [picture(20), None, picture(21)])
    moved = (model.logits(inputs, recipe.interventions(model, inputs)) != model.logits(inputs)).any(1)
    assert moved.tolist() == [True, False, True]


def test_mixing_reads_generation_configs_too():
    model = model_of("llama")
    recipe = CoCA().fit(model)
    for words, asked in (("do_sample=True without a seed", {"do_sample": True}), ("num_beams=2: ", {"num_beams": 2})):
        with pytest.raises(InputError, match=words):
            recipe.generate(model, model.prepare("who ?"), generation_config=GenerationConfig(**asked))
