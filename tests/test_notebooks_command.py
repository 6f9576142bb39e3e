"""`cmrm notebooks`: lessons where the user works, and nothing of theirs overwritten."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cmrm_interp.cli import app
from cmrm_interp.errors import StoreError
from cmrm_interp.notebook import lessons

ROOT = Path(__file__).parents[1]


def cmrm(*arguments):
    done = CliRunner().invoke(app, ["notebooks", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_every_lesson_and_notebook_is_listed_with_its_title():
    said = cmrm("list")
    for path in [*ROOT.glob("tutorials/*.ipynb"), *ROOT.glob("notebooks/*.ipynb")]:
        assert f"{path.relative_to(ROOT)} {' '.join(lessons.title(path).split())}" in said
    assert "01_what_an_image_does_to_a_refusal.ipynb 1. What an image does to a refusal" in said


def test_copies_are_the_files_themselves(tmp_path):
    out = tmp_path / "new" / "folder"
    said = cmrm("copy", out)
    found = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    assert found >= {path.relative_to(ROOT) for path in ROOT.glob("tutorials/*.ipynb")}
    assert Path("data/gated_shift.json") in found, "a notebook reads it"
    assert all((out / path).read_bytes() == (ROOT / path).read_bytes() for path in found)
    assert f"{out}: {len(found)} written, 0 there already, 0 kept" in said


def test_what_was_changed_is_left_alone_unless_forced(tmp_path):
    cmrm("copy", tmp_path)
    mine = next((tmp_path / "tutorials").glob("01*.ipynb"))
    shipped = mine.read_bytes()
    mine.write_text("my notes")
    said = cmrm("copy", tmp_path)
    assert mine.read_text() == "my notes"
    assert f"kept as it is: {mine} (--force replaces it)" in said
    assert "0 written" in said
    assert "1 kept" in said
    assert "1 written" in cmrm("copy", tmp_path, "--force")
    assert mine.read_bytes() == shipped


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "tutorials").write_text("a file")
    with pytest.raises(StoreError, match=r"was not written .*: choose another folder"):
        lessons.copy(tmp_path)


def test_lessons_that_are_not_there_are_said(monkeypatch, tmp_path):
    monkeypatch.setattr(lessons, "files", lambda package: tmp_path / "package")
    with pytest.raises(StoreError, match="the lessons were not installed"):
        lessons.lessons()


def test_the_title_is_the_first_heading(tmp_path):
    path = tmp_path / "mine.ipynb"
    cells = [
        {"cell_type": "code", "source": ["# no heading"]},
        {"cell_type": "markdown", "source": ["text\n", "# A b"]},
    ]
    path.write_text(json.dumps({"cells": cells}))
    assert lessons.title(path) == "A b"
    path.write_text(json.dumps({"cells": cells[:1]}))
    assert lessons.title(path) == "mine"
