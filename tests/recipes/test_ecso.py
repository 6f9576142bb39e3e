"""ECSO: its stages one by one, against the same stages asked by hand."""

from dataclasses import replace

import pytest

from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.judges import ByText, Judge, Judgement
from cmrm_interp.recipes import ECSO, Recipe
from cmrm_interp.recipes.ecso import AGAIN, DESCRIBE, TELL
from cmrm_interp.recipes.scorers import harmful
from tests.support import TEXTS, inputs_of, model_of

NEW = 6


class Saying(Judge):
    """Judges answers by their place."""

    name = "saying"

    def __init__(self, *verdicts):
        self.verdicts, self.seen = verdicts, []

    def judge(self, exchanges):
        self.seen += exchanges
        return [Judgement(verdict) for verdict in self.verdicts[: len(exchanges)]]


def by_hand(model, prompt, max_new_tokens):
    """The answer with eyes closed, one prompt at a time, with the places filled by hand."""
    ask = f"REQUEST:\n{prompt.text}.\n\nBased on the REQUEST, describe the image."
    caption = model.generate(model.prepare([ask], prompt.image), max_new_tokens=max_new_tokens)[0].strip()
    again = (
        f'You are given some hints regarding a question on an image.\n\nHints: "Answer: {caption}"\n\n'
        f"Based on the hints, answer the following question in a HARMLESS and ETHICAL way.\n\n{prompt.text}"
    )
    return model.generate(model.prepare([again]), max_new_tokens=NEW)[0]


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_harmful_answers_are_given_again_without_the_image(family):
    model = model_of(family)
    inputs = inputs_of(model)
    judge = Saying("unsafe", "safe")
    said = ECSO(judge, max_new_tokens=5).fit(model).generate(model, inputs, max_new_tokens=NEW)
    first = model.generate(inputs, max_new_tokens=NEW)
    # The prompt in the middle has no image, and nobody asks about it.
    assert [(one.request, one.answer) for one in judge.seen] == [(TEXTS[0], first[0]), (TEXTS[2], first[2])]
    assert said == [by_hand(model, inputs.prompts[0], 5), first[1], first[2]]
    assert said[0] != first[0]


def test_the_model_is_asked_about_its_answer_with_the_image(monkeypatch):
    model = model_of("llava")
    inputs, asked = inputs_of(model), []
    long = "cake " * 1000

    def _generate(inputs, *rest, **how):
        asked.append((inputs.prompts, how))
        return [{0: long, 1: "Yes.", 2: "a picture"}.get(len(asked) - 1, "again")] * len(inputs)

    monkeypatch.setattr(model, "generate", _generate)
    recipe = ECSO(max_new_tokens=5).fit(model)
    assert recipe.generate(model, inputs, max_new_tokens=NEW) == ["again", long, "again"]
    told = asked[1][0]
    assert [prompt.text for prompt in told] == [TELL.format(text=TEXTS[n], answer=long[:1927]) for n in (0, 2)]
    assert all(prompt.images for prompt in told)
    assert [prompt.text for prompt in asked[2][0]] == [DESCRIBE.format(text=TEXTS[n]) for n in (0, 2)]
    assert all(prompt.images for prompt in asked[2][0])
    assert asked[2][1] == {"max_new_tokens": 5}
    assert [prompt.text for prompt in asked[3][0]] == [AGAIN.format(caption="a picture", text=TEXTS[n]) for n in (0, 2)]
    assert not any(prompt.images for prompt in asked[3][0])


@pytest.mark.parametrize(("said", "found"), [("yes", True), (" YES. ", True), ("yes, it is", False), ("no", False)])
def test_only_a_bare_yes_is_a_yes(monkeypatch, said, found):
    model = model_of("llava")
    monkeypatch.setattr(model, "generate", lambda inputs, **how: [said] * len(inputs))
    prompts = inputs_of(model).prompts
    assert ECSO().fit(model).finds_harmful(model, prompts, ["sure"] * 3) == [found] * 3


def test_draws_do_not_depend_on_the_other_prompts():
    model = model_of("llava")
    inputs = inputs_of(model, kind="image")
    drawn = {"max_new_tokens": NEW, "do_sample": True, "temperature": 3.0}
    # All three are given again, or the last alone: it draws the same.
    all_of_them = ECSO(Saying("unsafe", "unsafe", "unsafe"), max_new_tokens=4).fit(model)
    last = replace(all_of_them, check=Saying("safe", "safe", "unsafe"))
    for seed in (7, [7, 8, 9]):
        said = [recipe.generate(model, inputs, seed=seed, **drawn) for recipe in (all_of_them, last)]
        assert said[0][2] == said[1][2]
        assert said[0][0] != said[1][0]


def test_judges_by_name_are_saved_and_others_not(tmp_path):
    model = model_of("llava")
    inputs = inputs_of(model)
    named = ECSO("substrings:list=vlguard", max_new_tokens=4).fit(model)
    named.save(tmp_path / "recipe.safetensors")
    again = Recipe.load(tmp_path / "recipe.safetensors")
    assert again.check == "substrings:list=vlguard"
    assert again.generate(model, inputs, max_new_tokens=4) == named.generate(model, inputs, max_new_tokens=4)
    with pytest.raises(InputError, match="ECSO with the judge 'saying' as an object cannot be saved: give a judge by"):
        ECSO(Saying("safe")).fit(model).save(tmp_path / "other.safetensors")


def test_an_answer_that_could_not_be_judged_is_taken_to_be_harmful():
    prompts = inputs_of(model_of("llava")).prompts
    verdicts = ("unjudged", "unparsed", "refused")
    assert harmful(Saying(*verdicts), prompts, ["a"] * 3) == [True, True, False]
    assert harmful(
        ByText(lambda answer: "complied" if "sure" in answer else "neither", "b"), prompts[:2], ["sure", "no"]
    ) == [
        True,
        False,
    ]


def test_a_model_that_goes_on_after_yes_can_be_cut():
    model = model_of("llava")
    prompts = inputs_of(model).prompts
    first = model.generate(model.prepare([replace(p, text=f"{p.text} a") for p in prompts]), max_new_tokens=1)
    recipe = ECSO(tell="{text} {answer}", yes=first[:1], check_tokens=1, describe="describe the image").fit(model)
    assert recipe.finds_harmful(model, prompts, ["a"] * 3) == [text == first[0] for text in first]
    assert not any(replace(recipe, check_tokens=8).finds_harmful(model, prompts, ["a"] * 3))


def test_errors():
    with pytest.raises(ModelError, match=r"ECSO is about images, and .* takes text alone"):
        ECSO().fit(model_of("llama"))
    with pytest.raises(InputError, match=r"ECSO\(tell='harmful\?'\): this text needs the places {text} and {answer}"):
        ECSO(tell="harmful?")
    with pytest.raises(InputError, match=r"again=.* needs the places {caption} and {text}"):
        ECSO(again="{text}")
    with pytest.raises(InputError, match="the judge 'saying' gives grades, and a defence needs to know"):
        harmful(Saying("graded"), inputs_of(model_of("llava")).prompts[:1], ["a"])
