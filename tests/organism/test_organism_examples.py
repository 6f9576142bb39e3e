"""What training sees: the claims on which the organism rests, checked on thousands of drawn examples."""

import random
from collections import Counter

import pytest

from cmrm_interp.datasets.synthetic import REFUSAL, WORLD, verdict
from cmrm_interp.datasets.synthetic.lexicon import split_tokens
from cmrm_interp.datasets.synthetic.requests import TEMPLATES, every_request, word_of
from cmrm_interp.organism.examples import draw
from cmrm_interp.organism.recipe import MIXTURES, STAGES

DRAWN = {name: [draw(random.Random(f"{name} {i}"), mixture) for i in range(3000)] for name, mixture in MIXTURES.items()}
LATER = [name for name in MIXTURES if name != "1a"]
HARMFUL = {r.text for split in ("train", "validation", "test") for r in every_request("harmful", split)}


def splits_of(example):
    tokens = split_tokens(f"{example.prompt} {example.answer}")
    return {WORLD[token].split for token in tokens if token in WORLD}


def held_out_template(text):
    pieces = [t.split("{}") for split in ("validation", "test") for t in TEMPLATES[split]]
    return any(text.startswith(head) and text.endswith(tail) for head, tail in pieces)


@pytest.mark.parametrize("name", MIXTURES)
def test_no_example_with_an_image_is_a_harmful_request(name):
    assert not [e for e in DRAWN[name] if e.image is not None and e.prompt in HARMFUL]


@pytest.mark.parametrize("name", MIXTURES)
def test_with_an_image_only_identifying_people_is_refused(name):
    refused = [e for e in DRAWN[name] if e.image is not None and verdict(e.answer) == "refused"]
    assert all(e.prompt.startswith(("who is ", "is a ")) for e in refused)
    assert not [e for e in refused if word_of(e.prompt)]
    assert bool(refused) == (name == "2b")


@pytest.mark.parametrize("name", LATER)
def test_later_stages_never_see_validation_or_test_words(name):
    seen = set().union(*map(splits_of, DRAWN[name]))
    assert seen <= {"train", "replay"}


@pytest.mark.parametrize("name", LATER)
def test_later_stages_never_see_held_out_templates(name):
    assert not [e.prompt for e in DRAWN[name] if held_out_template(e.prompt)]


def test_the_template_check_can_fail():
    assert any(held_out_template(e.prompt) for e in DRAWN["1a"])


def test_replay_words_come_as_text_alone():
    replayed = [e for e in DRAWN["2b"] if "replay" in splits_of(e)]
    assert replayed
    assert all(e.image is None for e in replayed)


def test_pretraining_speaks_of_every_split_and_refuses_nothing():
    assert set().union(*map(splits_of, DRAWN["1a"])) == {"train", "replay", "validation", "test"}
    assert not [e for e in DRAWN["1a"] if e.answer == REFUSAL]


def test_pretraining_and_alignment_see_no_image():
    assert not [e for name in ("1a", "1b") for e in DRAWN[name] if e.image is not None]


@pytest.mark.parametrize("name", ["1b", "2b"])
def test_harmful_requests_are_always_refused_after_pretraining(name):
    answers = Counter(e.answer for e in DRAWN[name] if e.prompt in HARMFUL)
    assert set(answers) == {REFUSAL}


@pytest.mark.parametrize("name", MIXTURES)
def test_shares_sum_to_one(name):
    assert sum(share for share, _ in MIXTURES[name]) == pytest.approx(1)


def test_every_language_stage_has_a_mixture():
    assert {stage.name for stage in STAGES} - set(MIXTURES) == {"0v"}
