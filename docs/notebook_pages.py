"""Pages of notebooks ask nothing of another server, and are searched by their prose."""

import html as markup
import re
from collections.abc import Iterator

from mkdocs.exceptions import PluginError

# The only widgets are progress bars; what would draw them is fetched from a server.
_WIDGETS = re.compile(
    r'<script type="application/vnd\.jupyter\.widget-(?:view|state)\+json">.*?</script>'
    r"|<script>\s*\(function\(\) \{\s*function addWidgetsRenderer\b.*?</script>",
    re.S,
)
# Elements without others of their kind inside: the search plugin tells elements by their names.
_NOT_SEARCHED = re.compile(
    r'<(?=pre\b|clipboard-copy\b|a class="anchor-link"|table [^>]*class="dataframe"|div class="jp-\w+Prompt )([\w-]+)'
)
_HEADING = re.compile(r'<h[1-6] id="([^"]+)"[^>]*>(.*?)<a class="anchor-link".*?</h[1-6]>', re.S)
_FETCHED = re.compile(r"""<(?:script|link|img)\b[^>]*(?:src|href)=["'](https?:[^"']+)|Src = '(https?:[^']+)""")


def on_page_content(html, page, config, files):
    """Leaves out the widgets; code, outputs and tables of data are not searched; the table of contents fits."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    html = _WIDGETS.sub("", html)
    if fetched := _FETCHED.search(html):
        raise PluginError(f"{page.file.src_uri} would ask another server for {fetched[1] or fetched[2]}")
    _mend(page.toc, _HEADING.finditer(html))
    return _NOT_SEARCHED.sub(r'<\1 data-search-exclude="true"', html)


def _mend(entries, headings: Iterator[re.Match]) -> None:
    """Gives back to the table of contents what its maker drops of a heading: words in code, and so the place."""
    for entry in entries:
        entry.id, title = next(headings).groups()
        entry.title = markup.unescape(re.sub(r"<[^>]+>", "", title)).strip()
        _mend(entry.children, headings)
