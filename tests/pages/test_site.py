"""The site as it is built, in a real browser: questions find their pages, and pages keep to themselves."""

import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from docs.screenshots import chromium

ROOT = Path(__file__).parents[2]
QUESTIONS = json.loads((Path(__file__).parent / "questions.json").read_text("utf-8"))
"""Questions as users type them, and the pages that answer each."""
PAGES = (
    "",
    "install/",
    "concepts/positions/",
    "how-to/steering/steer-generation/",
    "recipes/cmrm/",
    "defences/",
    "glossary/",
    "api/",
    "errors/",
    "tutorials/01_what_an_image_does_to_a_refusal/",
    "notebooks/paper_tables/",
    "404.html",
)
ASK = """async ([worker, questions]) => {
    const works = new Worker(worker), index = await (await fetch('/search/search_index.json')).json()
    const ask = message => new Promise(then => { works.onmessage = e => then(e.data); works.postMessage(message) })
    await ask({type: 0, data: {config: index.config, docs: index.docs, options: {suggest: true}}})
    const found = []
    for (const question of questions)
        found.push((await ask({type: 2, data: question})).data.items.map(page => page[0].location.split('#')[0]))
    return found
}"""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(
        build, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def address(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if chromium() is None:
        pytest.skip("needs Chromium: there is none on the PATH")
    with sync.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield opened
        opened.close()


def test_questions_find_the_pages_that_answer_them(site, address, browser):
    gone = {name for pages in QUESTIONS.values() for name in pages if not (site / name / "index.html").exists()}
    assert not gone, "questions.json names pages that are no longer there"
    (worker,) = (site / "assets/javascripts/workers").glob("search*.js")
    page = browser.new_page()
    page.goto(address + "404.html")
    found = page.evaluate(ASK, [f"/{worker.relative_to(site)}", list(QUESTIONS)])
    first = {
        question: [name.rstrip("/") for name in names[:3]] for question, names in zip(QUESTIONS, found, strict=True)
    }
    missed = {question: names for question, names in first.items() if not {*names} & {*QUESTIONS[question]}}
    assert len(missed) <= len(QUESTIONS) // 10, missed
    top = sum(names[:1] != [] and names[0] in QUESTIONS[question] for question, names in first.items())
    assert top >= 0.7 * len(QUESTIONS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_pages_ask_nobody_else_and_fit(width, scheme, address, browser):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request", lambda asked: None if asked.url.startswith((address, "data:", "blob:")) else wrong.append(asked.url)
    )
    page.on("response", lambda given: wrong.append(f"{given.status} {given.url}") if given.status >= 400 else None)
    for name in PAGES:
        page.goto(address + name)
        page.wait_for_load_state("networkidle")
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wrong.append(f"{name} is wider than {width} pixels")
    context.close()
    assert wrong == []
