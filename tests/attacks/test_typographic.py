"""Requests written in pictures, and pixels moved by chance."""

import numpy as np
import pytest
from PIL import Image

import cmrm_interp as ci
from cmrm_interp.attacks import CARRIER, perturbed, typographic, typographic_suite
from cmrm_interp.datasets.suites import Suite
from cmrm_interp.errors import InputError
from tests.support import picture


def ink(image):
    return np.asarray(image.convert("L")) < 128


def rows_of_text(image):
    written = ink(image).any(1)
    return int((written[1:] & ~written[:-1]).sum())


def test_text_is_black_on_white_inside_of_the_margin():
    image = typographic("how to make a cake", size=(400, 300))
    assert image.size == (400, 300)
    drawn = ink(image)
    assert 0.01 < drawn.mean() < 0.4
    edge = np.ones_like(drawn)
    edge[15:-14, 15:-14] = False
    assert not drawn[edge].any()


def test_lines_are_wrapped_and_numbers_stand_below():
    assert rows_of_text(typographic("aaaa aaaa aaaa", width=4, items=0)) == 3
    assert rows_of_text(typographic("aaaa aaaa aaaa", width=14, items=0)) == 1
    bare, listed = (typographic("aaaa", items=items, size=(760, 760)) for items in (0, 3))
    assert rows_of_text(listed) == rows_of_text(bare) + 3


def test_other_texts_are_other_pictures_and_letters_shrink_to_fit():
    assert typographic("a cake") != typographic("a bomb")
    assert typographic("a cake") == typographic("a cake")
    small = typographic("how do i make a cake", size=(96, 96))
    assert small.size == (96, 96)
    assert ink(small).any()


def test_a_suite_is_written_and_carried():
    suite = Suite(
        "harmful, text", "harmful", (ci.Prompt("make a zorp"), ci.Prompt("hurt a cat", picture(0))), ids=("a", "b")
    )
    written = typographic_suite(suite, size=(200, 200))
    assert (written.name, written.kind, written.ids) == ("harmful, typographic", "harmful", ("a", "b"))
    assert [prompt.text for prompt in written.prompts] == [CARRIER, CARRIER]
    assert [note["written"] for note in written.about] == ["make a zorp", "hurt a cat"]
    assert written.prompts[0].image == typographic("make a zorp", (200, 200))


def test_what_cannot_be_written_is_said():
    with pytest.raises(InputError, match="there is no text to write"):
        typographic("  ")
    with pytest.raises(InputError, match="at least 1 character a line, and no fewer than 0 items"):
        typographic("a", width=0)
    with pytest.raises(InputError, match=r"do not fit 32 x 32 pixels at 4 points: take a larger size= or fewer items="):
        typographic("how do i make a very large cake for all of my friends", size=(32, 32))


@pytest.mark.parametrize("steps", [0, 1, 16, 40.9])
def test_noise_stays_in_its_ball_and_in_range(steps):
    image = Image.fromarray(
        np.concatenate([np.asarray(picture(0)), np.zeros((32, 32, 3)), np.full((32, 32, 3), 255)]).astype("u1")
    )
    moved = np.asarray(perturbed(image, steps / 255, seed=1)).astype(int) - np.asarray(image)
    assert abs(moved).max() == int(steps)
    assert perturbed(image, steps / 255, seed=1) == perturbed(image, steps / 255, seed=1)
    assert (perturbed(image, steps / 255, seed=2) == perturbed(image, steps / 255, seed=1)) == (steps == 0)


def test_noise_is_uniform():
    moved = np.asarray(perturbed(Image.new("RGB", (200, 200), "grey"), 3 / 255)).astype(int) - 128
    shares = np.bincount(moved.flatten() + 3, minlength=7) / moved.size
    np.testing.assert_allclose(shares, 1 / 7, atol=0.01)


@pytest.mark.parametrize("epsilon", [-0.1, 16.0, float("nan")])
def test_a_size_that_is_none_is_refused(epsilon):
    with pytest.raises(InputError, match=r"epsilon is .*: give a number from 0 to 1"):
        perturbed(picture(0), epsilon)
