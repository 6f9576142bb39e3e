"""The made-up words: splits never overlap, and the world is the same in every process."""

import inspect
import os
import subprocess
import sys

import pytest

from cmrm_interp.datasets.synthetic import GROUPS, SPLITS, WORLD, words
from cmrm_interp.datasets.synthetic.lexicon import lexicon, split_tokens
from cmrm_interp.errors import InputError


def test_every_word_is_in_one_group_and_one_split():
    by_split = {split: {w.text for g in GROUPS for w in words(g, split)} for split in SPLITS}
    assert sum(map(len, by_split.values())) == len(set().union(*by_split.values())) == len(WORLD)


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_words_to_learn_choose_and_report_on(group):
    for split, least in (("train", 16), ("validation", 4), ("test", 5)):
        assert len(words(group, split)) >= least


def test_replay_words_are_all_harmless():
    assert not words("hazard", "replay")
    assert not words("cruel", "replay")
    assert words("harmless", "replay")
    assert words("kind", "replay")


def test_words_without_a_split_are_all_the_group():
    assert sum(len(words(group)) for group in GROUPS) == len(WORLD)


def test_an_unknown_split_is_named():
    with pytest.raises(InputError, match=r"no group or split 'tset'"):
        # Unwrapped: the type checker that tests run under would object before the function does.
        inspect.unwrap(words)("hazard", "tset")


def test_made_up_words_are_no_other_tokens():
    others = {token for token in lexicon() if token not in WORLD}
    assert set(lexicon()) == others | set(WORLD)
    assert {"how", "?", "sure", "refuse"} & others == {"how", "?", "sure"}


def test_tokens_are_split_alike_whatever_the_spacing():
    assert split_tokens("How do I make a X?") == split_tokens("how do i make a x ?")


def test_the_world_does_not_depend_on_the_hash_seed():
    code = (
        "from cmrm_interp.datasets.synthetic import *;"
        "print(list(WORLD.values())[::7], requests('harmful', 'test', 9, 3));"
        "print(visual_questions(2)[1].image.tobytes()[:64])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert "harmful" in runs[0]
