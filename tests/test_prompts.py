"""Prompts become chat turns, and are paired with images in the order given."""

import numpy as np
import pytest

from cmrm_interp.errors import ImageError, InputError
from cmrm_interp.prompts import Prompt, Turn, pair
from tests.support import picture, unchecked


def test_turns_have_the_image_before_the_text_and_the_system_prompt_first():
    turns = Prompt("look", picture(), "be kind").turns()
    assert [turn["role"] for turn in turns] == ["system", "user"]
    assert turns[0]["content"] == [{"type": "text", "text": "be kind"}]
    assert turns[1]["content"] == [{"type": "image"}, {"type": "text", "text": "look"}]


def test_turns_without_image_differ_in_nothing_but_the_image():
    prompt = Prompt("look", picture(), "be kind")
    with_image, without = prompt.turns(), prompt.with_image(None).turns()
    assert with_image[0] == without[0]
    assert with_image[1]["content"][1:] == without[1]["content"]


def test_one_text_is_a_list_of_one():
    assert pair("a") == pair(["a"]) == pair(Prompt("a")) == (Prompt("a"),)


def test_several_images_come_before_the_text_in_order():
    one, other = picture(0), picture(1)
    prompt = Prompt("look", [one, other])
    assert prompt.images == (one, other)
    assert [part["type"] for part in prompt.turns()[-1]["content"]] == ["image", "image", "text"]
    assert (Prompt("look", [one]).image, Prompt("look", [one]).images) == (one, (one,))
    assert (Prompt("look", []).image, Prompt("look").images, Prompt("look", ()).images) == (None, (), ())
    assert prompt.with_image("x.png").images == ("x.png",)
    assert prompt.with_image(["x.png", "y.png"]).images == ("x.png", "y.png")
    assert prompt.with_image(None) == Prompt("look")
    given = [one, other]
    kept = Prompt("look", given)
    given.clear()
    assert kept.images == (one, other)


def test_earlier_turns_come_between_system_prompt_and_text():
    said = [("user", "hi"), Turn("assistant", "hello")]
    prompt = Prompt("look", picture(), "be kind", said)
    assert [turn["role"] for turn in prompt.turns()] == ["system", "user", "assistant", "user"]
    assert [turn["content"][-1]["text"] for turn in prompt.turns()] == ["be kind", "hi", "hello", "look"]
    assert [len(turn["content"]) for turn in prompt.turns()] == [1, 1, 1, 2]
    assert prompt.history == (Turn("user", "hi"), Turn("assistant", "hello"))
    assert prompt.with_image(None).history == prompt.history


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (("system", "x"), r"an earlier turn is by user or assistant, not 'system'; use system= for the system prompt"),
        (("user", "x", "y"), r"an earlier turn is Turn\(role, text\) or \(role, text\), not \('user', 'x', 'y'\)"),
        ("hi", r"an earlier turn is Turn\(role, text\) or \(role, text\), not 'hi'"),
    ],
)
def test_what_is_no_earlier_turn(turn, words):
    with unchecked(), pytest.raises(InputError, match=words):
        Prompt("look", history=[turn])


@pytest.mark.parametrize("image", ["x.png", np.zeros((4, 4, 3), np.uint8), picture()], ids=["path", "array", "image"])
def test_one_image_is_for_all(image):
    assert [p.image is image for p in pair(["a", "b"], image)] == [True, True]


def test_images_and_prompts_are_paired_in_order():
    first, third = picture(0), picture(1)
    assert [p.image for p in pair(["a", "b", "c"], [first, None, third])] == [first, None, third]
    several = pair(["a", "b", "c"], [[first, third], None, third])
    assert [p.images for p in several] == [(first, third), (), (third,)]
    assert [p.images for p in pair("a", [[first, third]])] == [(first, third)]


def test_a_prompts_own_system_prompt_wins():
    assert [p.system for p in pair(["a", Prompt("b", system="mine")], system="ours")] == ["ours", "mine"]


@pytest.mark.parametrize(
    ("prompts", "images", "error", "words"),
    [
        ([], None, InputError, "the list of prompts is empty: give at least one"),
        (["a", 3], None, InputError, "prompt 1 is a int: give a str or a Prompt"),
        (3, None, InputError, "prompts is a int: give texts or Prompts, one or a list of them"),
        (["a"], ["x.png", "y.png"], ImageError, r"2 images for 1 prompts: .* one \(or None\) for each .*\[\[a, b\]\]"),
        (["a", "b"], ["x.png"], ImageError, "1 images for 2 prompts"),
        (["a"], [], ImageError, "0 images for 1 prompts"),
        ([Prompt("a", "own.png")], "x.png", ImageError, "prompt 0 has an image of its own: leave out images="),
    ],
)
def test_what_does_not_pair(prompts, images, error, words):
    with unchecked(), pytest.raises(error, match=words):
        pair(prompts, images)
