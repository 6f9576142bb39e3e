"""The measurement behind the card, on an organism that learnt nothing: shape, splits, choice."""

import json

import pytest

from cmrm_interp.organism import train
from cmrm_interp.organism.measure import METHODS, Asked, measure, recipes, save
from cmrm_interp.organism.results import load_cells, select
from cmrm_interp.recipes import CMRM


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = train(tmp_path_factory.mktemp("organism"), steps_scale=0.001, progress=False)
    return measure(folder, seed=5, n_validation=2, n_test=3, largest=0.125)


def test_every_method_is_reported_at_one_alpha_that_validation_chose(cells):
    for method, application, steps in METHODS:
        same = select(cells, method=method, application=application, steps=steps)
        tested = select(same, split="test")
        assert len({cell.alpha for cell in tested}) == 1
        assert all(cell.chosen for cell in tested)
        assert tested[0].alpha in {cell.alpha for cell in select(same, split="validation")}
        assert [cell.kind for cell in tested] == ["harmful"] * 3 + ["benign", "visual"]


def test_counts_add_up(cells):
    assert all(cell.complied + cell.refused + cell.neither == cell.n for cell in cells)
    assert {cell.n for cell in select(cells, split="test")} == {3}
    assert {cell.seed for cell in cells} == {5}


def test_the_splits_ask_different_things():
    asked = Asked({"validation": 20, "test": 20})
    texts = [{prompt.text for prompt in asked.prompts(split, "harmful", "text")[0]} for split in ("validation", "test")]
    assert not texts[0] & texts[1]


def test_conditions_of_a_split_differ_in_the_image_alone():
    asked = Asked({"test": 5})
    text, real, caption = (asked.prompts("test", "harmful", image)[0] for image in ("text", "real", "caption"))
    assert [p.text for p in text] == [p.text for p in real]
    assert all(told.text.endswith(plain.text) and told.image is None for told, plain in zip(caption, text, strict=True))


def test_saved_cells_are_read_again(cells, tmp_path):
    save(cells, tmp_path / "results.json")
    assert load_cells(tmp_path / "results.json") == cells


def test_settings_for_the_demo_are_those_that_were_chosen(cells):
    found = json.loads(json.dumps(recipes(cells, seed=5)))
    assert found["cmrm"]["alpha"] == select(cells, method="dataset mean", application="live", chosen=True)[0].alpha
    assert set(found["variants"]) >= {"sample level", "principal component", "incremental, prefill", "live, every step"}
    for how in found["variants"].values():
        CMRM(**how)
