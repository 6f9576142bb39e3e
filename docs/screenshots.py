"""Pictures of the explorer for the pages: JupyterLab in a headless Chromium, with the slider moved as a hand would.

    python docs/screenshots.py     # writes docs/figures/explorer.png

Needs Chromium, and the extras [dev] and [notebooks].
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

FIGURES = Path(__file__).parent / "figures"
CELL = """\
import cmrm_interp as ci
from cmrm_interp.datasets.suites import organism_anchors, organism_suites

model = ci.load("organism")
shift = ci.recipes.CMRM().fit(model, organism_anchors()).shift
requests = organism_suites("test", n=12)["harmful, real"]
inputs = model.prepare(requests.prompts)
ci.explore(model, inputs, shift.increments(), ci.Subtract)"""
PATIENCE = 500_000
"""Milliseconds that one step may take: kernels start slowly on a busy machine."""
WINDOW = {"width": 1280, "height": 1000}
# What JupyterLab would ask or fetch on a first visit.
QUIET = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/completer-extension/inline-completer.jupyterlab-settings": {"providers": {}},
}


def chromium() -> str | None:
    """Path of a Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """JupyterLab on a folder, with no settings but its own; gives the address with its token."""
    home, port, token = folder / ".home", free_port(), "screenshots"
    for name, settings in QUIET.items():
        path = home / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    where = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    where |= {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    own = {name: str(home / below) for name, below in (where | {"IPYTHONDIR": "ipython"}).items()}
    options = {"port": port, "port_retries": 0, "ip": "127.0.0.1", "allow_root": True, "root_dir": folder}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.{name}={value}" for name, value in options.items()]
    with (folder / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **own}, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, folder / "lab.log")
            yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}&reset"
        finally:
            server.terminate()
            server.wait(60)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    """Until a server answers.

    Raises:
        RuntimeError: it ended, or does not answer.
    """
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def page_of(address: str, scheme: str = "light") -> Iterator[Any]:
    """A browser's page at an address."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport=WINDOW, color_scheme=scheme, device_scale_factor=1.5)
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        try:
            yield page
        finally:
            browser.close()


@dataclass(frozen=True)
class OnPage:
    """The explorer of a notebook's first cell, as it stands on a page.

    Attributes:
        page: the browser's.
    """

    page: Any

    def run(self) -> None:
        """Run the cell, and wait for the sliders."""
        prompt = self.page.locator(".jp-Notebook .jp-Cell .jp-InputPrompt").first
        prompt.wait_for()
        end = time.monotonic() + PATIENCE / 1000
        # What is run before the kernel is there is lost without a word.
        while prompt.inner_text().strip() in ("", "[ ]:") and time.monotonic() < end:
            self.page.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
            self.page.keyboard.press("Shift+Enter")
            self.page.wait_for_timeout(5_000)
        self.page.wait_for_selector(".jp-OutputArea .widget-slider .noUi-handle")

    def slide(self, name: str, steps: int) -> None:
        """Move a slider by so many steps, with the arrow keys."""
        handle = self.page.locator(".widget-slider", has_text=name).locator(".noUi-handle").first
        handle.focus()
        for _ in range(abs(steps)):
            handle.press("ArrowRight" if steps > 0 else "ArrowLeft")

    def choose(self, name: str, value: str) -> None:
        """Choose from a list."""
        self.page.locator(".widget-dropdown", has_text=name).locator("select").select_option(value)

    def shown(self) -> dict[str, str]:
        """The columns of the table, and the line below it."""
        table = self.page.locator(".widget-html table")
        cells = zip(table.locator("th").all_inner_texts(), table.locator("td").all_inner_texts(), strict=True)
        return {**dict(cells), "said": self.page.locator(".widget-html table + *").inner_text()}

    def wait(self, words: str) -> None:
        """Until the explorer says something."""
        self.page.locator(".widget-html", has_text=words).wait_for()

    def save(self, path: Path) -> None:
        """A picture of the cell and the explorer below it, with nothing of the machine on it."""
        self.page.evaluate("document.activeElement.blur()")
        self.page.locator(".jp-Notebook .jp-Cell").first.screenshot(path=path)


@contextmanager
def explorer(cell: str = CELL) -> Iterator[OnPage]:
    """The explorer of a throw-away notebook, run in a browser."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, folder / "explorer.ipynb")
        with jupyterlab(folder) as address, page_of(address.format("explorer.ipynb")) as page:
            found = OnPage(page)
            found.run()
            yield found


def main() -> None:
    """Write the figures."""
    with explorer() as found:
        found.wait("alpha=0.0")
        found.slide("alpha", 13)
        found.wait("alpha=0.65")
        found.save(FIGURES / "explorer.png")


if __name__ == "__main__":
    main()
