"""Pages of notebooks ask no other server for anything, and are searched by their prose."""

from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError

from docs.notebook_pages import on_page_content

LOADER = (
    "<script>\n(function() {\n  function addWidgetsRenderer() {\n var aSrc = 'https://cdn/x.js'; } }());\n</script>"
)
VIEW = '<script type="application/vnd.jupyter.widget-view+json">\n{"model_id": "1"}\n</script>'


def shown(html, path="tutorials/one.ipynb", toc=()):
    return on_page_content(html, SimpleNamespace(file=SimpleNamespace(src_uri=path), toc=toc), None, None)


def test_widgets_are_left_out_and_other_scripts_stay():
    kept = '<script type="text/javascript">var element = 1;</script>'
    assert shown(f"<p>a</p>{LOADER}{kept}{VIEW}<p>b</p>") == f"<p>a</p>{kept}<p>b</p>"


@pytest.mark.parametrize("tag", ['<img src="https://host/a.png">', "<script src='http://host/a.js'></script>"])
def test_what_would_be_fetched_is_refused(tag):
    with pytest.raises(PluginError, match=r"tutorials/one\.ipynb would ask another server for https?://host/a"):
        shown(tag)


def test_code_is_not_searched_and_prose_is():
    html = shown('<p>words <a href="https://host">there</a></p><pre>x = 1</pre>')
    assert html == '<p>words <a href="https://host">there</a></p><pre data-search-exclude="true">x = 1</pre>'


def test_other_pages_stay_as_they_are():
    assert shown(f"{LOADER}<pre>x</pre>", "index.md") == f"{LOADER}<pre>x</pre>"


def test_the_table_of_contents_has_words_in_code():
    entry = SimpleNamespace(id="is-it", title="Is it?", children=[])
    shown('<h2 id="is-1-it">Is <code>-1</code> it?<a class="anchor-link" href="#">¶</a></h2>', toc=[entry])
    assert (entry.id, entry.title) == ("is-1-it", "Is -1 it?")
