from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from docs.notebook_links import on_page_content

PLACES = ("tutorials/01_a.ipynb", "tutorials/02_b.ipynb", "concepts/positions.md")


def shown(html, place="tutorials/01_a.ipynb"):
    """The page of a notebook that lies at a place, as the site's hook leaves it."""
    files = Files([File(path, "src", "site", use_directory_urls=True) for path in PLACES])
    for file in files:
        if file.src_uri.endswith(".ipynb"):  # as the notebooks' plugin says where they go
            file.url = f"{file.src_uri.removesuffix('.ipynb')}/"
    page = SimpleNamespace(file=files.get_file_from_path(place) or SimpleNamespace(src_uri=place))
    return on_page_content(html, page, None, files)


def test_a_link_of_a_lesson_to_a_file_is_one_to_its_page():
    assert shown('<a href="02_b.ipynb">b</a>') == '<a href="../02_b/">b</a>'
    page = shown('<a class="x" href="../docs/concepts/positions.md#last">p</a>')
    assert page == '<a class="x" href="../../concepts/positions/#last">p</a>'


@pytest.mark.parametrize("html", ['<a href="https://a.b/c.md">c</a>', '<a href="#part">c</a>', "see c.md"])
def test_other_links_stay(html):
    assert shown(html) == html


def test_pages_that_are_no_notebooks_stay():
    assert shown('<a href="02_b.ipynb">b</a>', "concepts/positions.md") == '<a href="02_b.ipynb">b</a>'


def test_a_link_to_nothing_is_refused():
    with pytest.raises(PluginError, match=r"01_a.ipynb links to '03_c.ipynb', which is no page"):
        shown('<a href="03_c.ipynb">c</a>')
