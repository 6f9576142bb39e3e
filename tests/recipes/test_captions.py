"""Captions are what the model says when it is asked alone, and take the image's place."""

import pytest

import cmrm_interp as ci
from cmrm_interp.recipes.captions import captions, in_words
from tests.support import TEXTS, model_of, picture, quiet

QUESTION = "what is in the picture ?"


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_a_caption_is_the_answer_to_the_question_alone(family):
    model = model_of(family)
    shown = [picture(1), None, picture(2, (16, 24))]
    prompts = model.prepare(TEXTS, shown, system="you are kind").prompts
    got = captions(model, prompts, QUESTION, 5)
    for caption, image in zip(got, shown, strict=True):
        if image is None:
            assert caption == ""
            continue
        asked = model.prepare(QUESTION, image, system="you are kind")
        assert caption == model.generate(asked, max_new_tokens=5, **quiet(model))[0].strip() != ""


def test_without_images_nothing_is_run():
    assert captions(model_of("llama"), [ci.Prompt("who ?")], QUESTION) == [""]


def test_words_take_the_images_place():
    image = picture(0)
    assert in_words(ci.Prompt("who {x} ?", image), "a cat {y}").text == "a cat {y} who {x} ?"
    told = in_words(ci.Prompt("who ?", [image, image], "be kind", [("user", "hi")]), "cats", "{text} ({caption})")
    assert (told.text, told.images, told.system, len(told.history)) == ("who ? (cats)", (), "be kind", 1)
    bare = ci.Prompt("who ?")
    assert in_words(bare, "a cat") is bare
