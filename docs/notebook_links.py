"""Links in lessons and notebooks: written as files of the repository, so that they work in Jupyter; shown as pages."""

import posixpath
import re

from mkdocs.exceptions import PluginError

LINK = re.compile(r'(<a\b[^>]*?\bhref=")([^"#:]+\.(?:ipynb|md))(#[^"]*)?"')


def on_page_content(html, page, config, files):
    """Turns links of a notebook's page to files of the repository into links to their pages."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    return LINK.sub(lambda found: _link(found, page.file, files), html)


def _link(found: re.Match, notebook, files) -> str:
    start, written, part = found.groups(default="")
    place = posixpath.normpath(posixpath.join(posixpath.dirname(notebook.src_uri), written))
    target = files.get_file_from_path(place.removeprefix("docs/"))
    if target is None:
        raise PluginError(f"{notebook.src_uri} links to {written!r}, which is no page of the site")
    return f'{start}{target.url_relative_to(notebook)}{part}"'
