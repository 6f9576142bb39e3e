"""Buttons over lessons and notebooks: open it in Colab, on Binder, or take the file.

Where the repository lies is said by the clone that the site is built from (its remote `origin`, if that is on GitHub),
or in mkdocs.yml: `extra.repository: OWNER/NAME` (`extra.branch` if it is not main). Without either there is nothing
that Colab and Binder could open, and the buttons are left out.
"""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import quote

COLAB = "https://colab.research.google.com/github/{repository}/blob/{branch}/{path}"
GITHUB = re.compile(r"github\.com[:/]([^/]+/[^/]+?)(?:\.git)?/?$")
BINDER = "https://mybinder.org/v2/gh/{repository}/{branch}?labpath={quoted}"


def on_page_content(html, page, config, files):
    """Puts the buttons over the page of a notebook."""
    path = page.file.src_uri
    if not path.endswith(".ipynb"):
        return html
    repository = config.extra.get("repository") or origin(Path(config.config_file_path).parent)
    return buttons(repository, path, config.extra.get("branch") or "main") + html


@cache  # the same for every page
def origin(folder: Path) -> str:
    """``OWNER/NAME`` of a clone's remote ``origin`` on GitHub, or "" for any other.

    Args:
        folder: of the clone.
    """
    if shutil.which("git") is None:
        return ""
    asked = subprocess.run(
        ["git", "config", "--get", "remote.origin.url"], cwd=folder, capture_output=True, text=True, check=False
    )
    found = GITHUB.search(asked.stdout.strip())
    return found[1] if found else ""


def buttons(repository: str, path: str, branch: str = "main") -> str:
    """The buttons of one notebook.

    Args:
        repository: ``OWNER/NAME`` on GitHub, or "" for no buttons.
        path: of the notebook in it.
        branch: of the repository.
    """
    if not repository:
        return ""
    where = {"repository": repository, "branch": branch, "path": quote(path), "quoted": quote(path, safe="")}
    links = {"Open in Colab": COLAB, "Open on Binder": BINDER}
    made = (f'<a class="md-button" href="{url.format(**where)}">{name}</a>' for name, url in links.items())
    return f"<p>{' '.join(made)}</p>\n"
