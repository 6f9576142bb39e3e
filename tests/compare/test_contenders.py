"""Rows of the table, the table of recipes, and the command."""

import re
from copy import deepcopy
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cmrm_interp.cli import app
from cmrm_interp.compare import cards
from cmrm_interp.compare.contenders import (
    BARE,
    CMRM_LABEL,
    CONTROLS,
    Contender,
    chosen_from,
    contenders,
    of_spec,
    order,
    organism_words,
)
from cmrm_interp.errors import InputError
from cmrm_interp.evaluation.defences import chosen_settings
from cmrm_interp.recipes import CMRM, RECIPES, TextOnly
from cmrm_interp.specs import slug
from tests.support import picture

DOCS = Path(__file__).parents[2] / "docs"


def test_every_registered_recipe_has_a_row_and_every_row_can_be_made():
    rows = contenders()
    assert set(RECIPES) <= {row.name for row in rows}
    assert set(CONTROLS) <= {row.name for row in rows}
    assert len({slug(row.label) for row in rows}) == len(rows)
    assert [row.label for row in rows][:2] == [BARE, CMRM_LABEL]
    for row in rows:
        if row.kind is not None:
            recipe = row.recipe(organism=True)
            assert type(recipe) is RECIPES[row.name]
            assert all(getattr(recipe, name) == value for name, value in row.settings.items()), row.label


def test_words_of_the_organism_are_settings_of_their_recipes():
    """One file says them, and `cmrm eval` reads the same."""
    kept = set(chosen_settings()) - {"cmrm", "variants"}
    assert {"adashield", "caption", "coca", "ecso", "eta", "shiftdc"} <= kept <= set(RECIPES)
    for name in kept:
        assert set(organism_words(name)) <= set(RECIPES[name].settings()), name
        made = of_spec(name).recipe(organism=True)
        assert {key: getattr(made, key) for key in chosen_settings()[name]} == chosen_settings()[name]
    assert organism_words("cmrm") == {}, "its strength is chosen, not given"
    assert of_spec("coca:alpha=3.0").recipe(organism=True).alpha == 3


def test_rows_from_specs_and_from_recipes():
    assert of_spec("cmrm").label == "CMRM"
    assert of_spec("mine=cmrm:alpha=0.5").settings == {"alpha": 0.5}
    assert of_spec("none").label == BARE
    assert of_spec("text-only").label == "text only"
    (row,) = chosen_from({"mine": CMRM(alpha=0.5, steps="all")})
    assert (row.name, row.settings) == ("cmrm", {"alpha": 0.5}), "what is the default may be chosen"
    assert row.spec == 'cmrm:{"alpha": 0.5}'
    assert [row.name for row in chosen_from({"bare": None, "t": TextOnly()})] == ["none", "text-only"]
    labels = [row.label for row in contenders()]
    assert [order(label) for label in labels] == list(range(len(labels)))
    assert order("unknown") == len(labels)


def test_a_spec_tells_values_apart_and_is_the_same_in_every_process():
    def spec(value):
        return Contender("mine", "mine", {"shown": value}).spec

    pictures = [picture(0), picture(1)]
    values = [*pictures, pictures, torch.arange(2000.0), torch.arange(2000.0).index_fill(0, torch.tensor(1000), 0), "a"]
    assert len({spec(value) for value in values}) == len(values)
    assert [spec(value) for value in values] == [spec(deepcopy(value)) for value in values]
    assert not any("0x" in spec(value) for value in values)
    assert spec(Path("a")) == spec("a")


def test_rows_are_left_out_by_name_or_label():
    labels = {row.label for row in contenders(skip=["cmrm", "text only"])}
    assert not any(label.startswith("CMRM") for label in labels)
    assert "text only" not in labels
    with pytest.raises(InputError, match="nothing is called 'cmmr' that could be left out: did you mean 'cmrm'"):
        contenders(skip=["cmmr"])


def test_settings_that_there_are_not_are_refused():
    with pytest.raises(InputError, match="the recipe 'cmrm' has no setting 'beta': there are level, alpha"):
        of_spec("cmrm:beta=1").recipe()
    with pytest.raises(InputError, match="is one string: give a list"):
        chosen_from("cmrm")
    with pytest.raises(InputError, match="nothing to compare: give at least one recipe"):
        chosen_from([])


def test_the_table_of_recipes_is_made_of_their_cards():
    said = CliRunner().invoke(app, ["recipes", "--markdown"]).output
    assert said == cards.markdown()
    for name, kind in RECIPES.items():
        line = next(line for line in said.splitlines() if line.startswith(f"| `{name}` |"))
        assert " ".join(kind.card.claim.split()) in line
        assert kind.card.arxiv in line
    assert len(fields(CMRM.card)) == 9
    listed = CliRunner().invoke(app, ["recipes"]).output
    assert all(re.search(rf"^{name} ", listed, re.MULTILINE) for name in RECIPES)


def test_the_page_has_the_table_of_recipes_as_it_is():
    assert cards.markdown() in (DOCS / "defences.md").read_text(), "make the page anew: cmrm compare ... --page"


def test_the_command_compares_and_writes_the_page(tmp_path):
    page, out = tmp_path / "page.md", tmp_path / "out"
    words = [
        "--model",
        "org=organism",
        "--recipe",
        "none",
        "--recipe",
        "text-only",
        "--n",
        "4",
        "--max-new-tokens",
        "8",
    ]
    ran = CliRunner().invoke(app, ["compare", *words, "--out", str(out), "--page", str(page)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert "text only" in ran.output
    assert (out / "report" / "defences.csv").is_file()
    assert "| org | text only |" in page.read_text()
    with pytest.raises(InputError, match="two of the models are called 'org'"):
        CliRunner().invoke(app, ["compare", *words, "--model", "org=x", "--out", str(out)], catch_exceptions=False)
