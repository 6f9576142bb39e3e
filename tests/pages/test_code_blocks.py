"""Every code block of README and documentation runs, in its page's order, in a folder as a reader would have it."""

import matplotlib
import pytest

from tests.pages.blocks import ROOT, blocks, run
from tests.pages.surroundings import furnish
from tests.support import unchecked

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    found = blocks(page.read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    furnish(tmp_path, "".join(block.code for block in found))
    names = {"__name__": "__main__"}
    with unchecked():  # as for a reader
        for block in found:
            run(block, str(page), names)


def test_a_block_that_fails_fails_with_the_line_of_the_page():
    (block,) = blocks("words\n\n```python\nx = 1\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as raised:
        run(block, "page.md", {})
    assert raised.traceback[-1].lineno == 4


def test_a_wrong_option_and_an_unknown_language_are_seen():
    (block,) = blocks('```sh title="on your files"\ncmrm eval --no-such-option 3\n```\n')
    with pytest.raises(Exception, match="no-such-option"):
        run(block, "page.md", {})
    (block,) = blocks("```rust\nfn main() {}\n```\n")
    with pytest.raises(AssertionError, match="rust"):
        run(block, "page.md", {})


def test_indented_blocks_titles_and_languages_are_read():
    text = '??? note\n    ```python title="pyvene"\n    a = 1\n    ```\n\n```text\nx\n```\n'
    assert [(b.language, b.title, b.code) for b in blocks(text)] == [
        ("python", "pyvene", "a = 1\n"),
        ("text", "", "x\n"),
    ]
