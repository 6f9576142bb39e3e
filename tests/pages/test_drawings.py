"""The drawings of the pages: every one is there, nothing lies on anything else, and every page has one."""

import matplotlib
import pytest

from docs.canvas import STYLE, Canvas
from docs.drawings import DRAWINGS, FOLDER, main
from tests.pages.blocks import ROOT

PAGES = sorted(path for path in (ROOT / "docs/concepts").glob("*.md"))


@pytest.mark.parametrize("name", [name for name in DRAWINGS if name != "phenomenon"])
def test_no_words_lie_on_others_or_leave_the_sheet(name):
    with matplotlib.rc_context(STYLE):
        assert DRAWINGS[name]("light").overlaps() == []


def test_words_that_do_are_seen():
    sheet = Canvas(2, 1)
    sheet.text(1, 0.5, "one")
    sheet.text(1.1, 0.5, "other")
    sheet.text(2, 0.2, "outside")
    assert sheet.overlaps() == [("outside", ""), ("other", "one")]


def test_each_is_kept_for_light_and_dark_pages_as_it_is_drawn(tmp_path):
    assert {path.stem for path in FOLDER.glob("*.svg")} == {f"{n}-{t}" for n in DRAWINGS for t in ("light", "dark")}
    main(tmp_path, names=("map", "recipes"))
    for path in tmp_path.iterdir():
        kept = (FOLDER / path.name).read_text(encoding="utf-8")
        assert kept.count("<path") == path.read_text(encoding="utf-8").count("<path")


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_concept_has_a_drawing(page):
    assert "../figures/concepts/" in page.read_text(encoding="utf-8")
