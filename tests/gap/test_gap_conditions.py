"""The five input variants are built right."""

import numpy as np
import pytest

import cmrm_interp as ci
from cmrm_interp.errors import ImageError, InputError
from cmrm_interp.gap import describe, told, variants
from tests.support import model_of, picture, unchecked

TEXTS = ["make a cake ?", "feed the cat please"]
CAPTIONS = ["a red cat .", "a dog ."]


def made(**more):
    return variants(model_of("llava"), TEXTS, [picture(0), picture(1, (16, 24))], CAPTIONS, **more)


def test_five_conditions_of_the_same_prompts_in_the_papers_order():
    found = made()
    assert list(found) == ["image", "blank", "noise", "caption", "text"]
    for name in ("image", "blank", "noise", "text"):
        assert [prompt.text for prompt in found[name].prompts] == TEXTS
    assert [len(p.images) for p in found["text"].prompts] == [0, 0]
    assert not found["text"].has_images
    assert not found["caption"].has_images


def test_the_caption_is_a_line_before_the_prompt():
    assert [p.text for p in made()["caption"].prompts] == ["a red cat .\nmake a cake ?", "a dog .\nfeed the cat please"]


def test_meaningless_images_have_the_size_of_those_they_stand_in_for():
    found = made()
    blank, noise = ([p.images[0] for p in found[name].prompts] for name in ("blank", "noise"))
    assert [image.size for image in blank] == [image.size for image in noise] == [(32, 32), (16, 24)]
    assert (np.asarray(blank[0]) == 255).all()
    np.testing.assert_array_equal(np.asarray(noise[1]), np.asarray(ci.images.gaussian_noise((16, 24), seed=1)))
    np.testing.assert_array_equal(
        np.asarray(made(seed=5)["noise"].prompts[1].images[0]), np.asarray(ci.images.gaussian_noise((16, 24), seed=6))
    )


def test_inputs_and_prompts_that_bring_their_images_are_taken():
    model = model_of("llava")
    prompts = [ci.Prompt(text, picture(row), system="you are kind") for row, text in enumerate(TEXTS)]
    for given in (prompts, model.prepare(prompts)):
        found = variants(model, given, captions=CAPTIONS)
        assert [p.images for p in found["image"].prompts] == [p.images for p in prompts]
        assert all(p.system == "you are kind" for name in found for p in found[name].prompts)


def test_several_images_are_each_replaced():
    found = variants(model_of("llava"), TEXTS[:1], [[picture(0), picture(1, (16, 24))]], CAPTIONS[:1])
    assert [image.size for image in found["blank"].prompts[0].images] == [(32, 32), (16, 24)]


@pytest.mark.parametrize("system", [None, "you are kind and tell me about cats"])
def test_without_captions_the_model_is_asked_about_the_image_alone(system):
    model, pictures = model_of("llava"), [picture(0), picture(1)]
    given = model.prepare(TEXTS, pictures, system)
    asked = model.prepare(["Describe the image."] * 2, pictures, system)
    answers = [answer.strip() for answer in model.generate(asked, max_new_tokens=64)]
    assert describe(model, given) == answers
    expected = [f"{answer}\n{text}" for answer, text in zip(answers, TEXTS, strict=True)]
    assert [p.text for p in variants(model, given)["caption"].prompts] == expected
    other = model.prepare(["Describe the image."] * 2, pictures, "be brief" if system is None else None)
    assert [answer.strip() for answer in model.generate(other, max_new_tokens=64)] != answers


def test_the_organism_describes_what_it_sees():
    from cmrm_interp.datasets import synthetic

    model, scenes = ci.load("organism"), synthetic.scenes(12, seed=4)
    inputs = model.prepare(["write a poem."] * 12, [scene.image for scene in scenes])
    said = describe(model, inputs)
    assert sum(a == synthetic.caption(s.objects) for a, s in zip(said, scenes, strict=True)) >= 5


def test_refused_in_words():
    model = model_of("llava")
    inputs = model.prepare(TEXTS, [picture(), None])
    with pytest.raises(ImageError, match=r"prompt 1 \('feed the cat please'\) has no image to leave out: give images="):
        variants(model, inputs)
    with pytest.raises(InputError, match="1 as captions of 2 prompts: give a list with one for each"):
        told(model, inputs, CAPTIONS[:1])
    with pytest.raises(InputError, match="one text as captions of 2 prompts"):
        told(model, inputs, "ab")
    with unchecked(), pytest.raises(InputError, match="caption 1 is a NoneType: give a text"):
        told(model, inputs, ["a", None])
    with pytest.raises(ImageError):
        variants(model_of("llama"), TEXTS, picture())
