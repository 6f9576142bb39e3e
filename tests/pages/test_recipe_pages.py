"""Every registered recipe has a page, made of its module, whose code runs; its numbers are those of the comparison."""

import csv
import importlib
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from mkdocs.config import load_config
from mkdocs.structure.files import Files

import cmrm_interp as ci
from cmrm_interp.compare.long import long_form, write_long
from cmrm_interp.recipes import RECIPES
from tests.pages.blocks import ROOT, blocks, run

LOAD = ci.load


@pytest.fixture(scope="module")
def made():
    """The modules of docs/ that make the pages."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        names = ("hooks", "recipe_pages", "recipe_rows", "recipe_options")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(ROOT / "docs"))


@cache
def organism():
    return LOAD("organism")


@pytest.fixture
def loads_once(monkeypatch):
    """The first model that a page loads is everybody's; a second one is another, as an expert has to be."""
    loaded = iter([organism()])
    monkeypatch.setattr(ci, "load", lambda source, **how: next(loaded, None) or LOAD(source, **how))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    return ci.compare({"seed-1": organism()}, ["none", "text-only", "tbop:alpha=0.5,k=1,layer=3"], out=out, n=4)


@pytest.mark.parametrize("name", RECIPES)
def test_the_code_of_every_page_runs(name, made, loads_once, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code, *_) = [block for block in blocks(made.recipe_pages.page(name)) if block.language == "python"]
    run(code, name, {"__name__": "__main__"})
    assert len(capsys.readouterr().out.splitlines()) >= 3 * 4


@pytest.mark.parametrize("name", RECIPES)
def test_every_page_says_what_the_recipe_says_of_itself(name, made):
    text, card = made.recipe_pages.page(name), RECIPES[name].card
    assert text.startswith("# ")
    assert card.title.lower() in text.splitlines()[0].lower()
    assert card.claim[1:] in text
    assert card.sure in text
    assert not card.arxiv or f"https://arxiv.org/abs/{card.arxiv})" in text
    assert f"][{RECIPES[name].__module__}]" in text
    assert "::\n" not in text
    told = made.recipe_options.told_of(RECIPES[name])
    for option in RECIPES[name].settings():
        assert f"| `{option}`" in text
        assert told[option], f"the docstring of {RECIPES[name].__name__} says nothing of {option}"


def test_options_are_those_of_the_source(made):
    text = made.recipe_options.options(RECIPES["astra"])
    assert "| `alpha` * | `10.0` | `float` | strength, in norms of the state at a cosine of 1. |" in text
    assert "| `epsilon` | `0.06275` | `float` |" in text
    # A bar within code is shown as it is.
    assert "| `layer` * | `None` | `int | None` |" in text
    # Those of the class above it, and several under one description.
    assert "| `ridge` | `10.0` | `float` | of the map's fit," in made.recipe_options.options(RECIPES["nullsteer"])
    assert "`min_induced` | `0.0` | `float` | limits" in made.recipe_options.options(RECIPES["refusal-direction"])
    # A long text stands below, whole.
    shielded = made.recipe_options.options(RECIPES["adashield"])
    assert "| `defence` * | see below | `str` |" in shielded
    assert f"```text\n{RECIPES['adashield'].defence}\n```" in shielded
    assert made.recipe_options.options(RECIPES["text-only"]) == "It has none."


def test_every_recipe_is_in_the_index_and_in_the_navigation_once(made):
    there = [name for names in made.recipe_pages.by_kind().values() for name in names]
    assert sorted(there) == sorted(RECIPES)
    kinds = {kind: set(names) for kind, names in made.recipe_pages.by_kind().items()}
    images, text, around, controls = kinds.values()
    assert controls == {"caption", "text-only"}
    assert {"cmrm", "shiftdc"} <= images
    assert {"cast", "iti"} <= text
    assert {"ecso", "safedecoding", "finetuned"} <= around
    listed = [place for section in made.recipe_pages.navigation() for places in section.values() for place in places]
    assert {*listed, "recipes/index.md"} == set(made.recipe_pages.pages())
    assert all(f"({name}.md)" in made.recipe_pages.index() for name in RECIPES)


def test_the_build_has_the_pages(made):
    config = load_config(str(ROOT / "mkdocs.yml"), plugins=[])
    config.plugins._current_plugin = "docs/hooks.py"  # which mkdocs notes while it runs one
    files = made.hooks.on_files(Files([]), config)
    assert "## Use it" in files.get_file_from_path("recipes/cmrm.md").content_string
    assert made.recipe_pages.navigation()[0] in made.hooks._spread({"Recipes": ["recipes/*.md"]})["Recipes"]


def test_numbers_are_those_of_the_comparison(compared, made, tmp_path):
    write_long(compared, tmp_path / "defences.csv")
    with Path(tmp_path / "defences.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = compared.table()
    for name, label in (("tbop", "tbop:alpha=0.5,k=1,layer=3"), ("text-only", "text only")):
        text = made.recipe_pages.page(name, rows)
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {label} | ") and "[" in line]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        told = table.loc[("seed-1", label)]
        outcomes = [column for column in table.columns if ": " in column]
        assert cells[1 : 1 + len(outcomes)] == [told[column] for column in outcomes]
        assert cells[1 + len(outcomes)] == told["decoder tokens"]
        assert "one training seed [95 % interval]; 4 prompts" in text
    assert "`alpha=0.5`, `k=1`, `layer=3`" in made.recipe_pages.page("tbop", rows)
    assert "TBOP(alpha=0.5, layer=3).fit(model, anchors)" in made.recipe_pages.page("tbop", rows)


def test_several_seeds_are_a_mean_and_its_ends(compared, made):
    one = [
        {name: str(value) for name, value in row.items()}
        for row in long_form(compared).astype(object).fillna("").to_dict("records")
    ]
    column = "unsafe: harmful, real"
    other = [row | {"model": "seed-2"} for row in one]
    for row in (*one, *other):
        if row["column"] == column:
            row["value"] = "10.0" if row["model"] == "seed-1" else "40.0"
    text = made.recipe_rows.on_the_organism("tbop", [*one, *other])
    assert "mean of 2 training seeds [least, most]" in text
    assert "25.0 [10.0, 40.0]" in text


def test_a_row_that_was_not_run_says_why_and_a_page_without_numbers_nothing(made, monkeypatch, tmp_path):
    row = dict.fromkeys(("value", "low", "high", "n"), "") | {"model": "seed-1", "defence": "CAST", "recipe": "cast"}
    text = made.recipe_pages.page("cast", [row | {"column": "not run", "value": "no anchors"}])
    assert "## On the organism\n\nNot run:\n\n- CAST, seed-1: no anchors" in text
    monkeypatch.setattr(made.recipe_rows, "ROWS", tmp_path / "none.csv")
    assert made.recipe_rows.kept_rows() == []
    assert "## On the organism" not in made.recipe_pages.page("cast")
