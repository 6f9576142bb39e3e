"""What the build adds to docs/: lessons, notebooks, changelog, pages of recipes and modules, patterns in the nav."""

import json
from pathlib import Path

import recipe_pages
import reference_pages
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
ELSEWHERE = ("tutorials/*.ipynb", "notebooks/*.ipynb")
EXECUTED = ROOT / "executed"  # copies with outputs, which `make tutorials` and `make notebooks` leave
# In no folder: they are made of the modules.
RECIPES = "recipes/*.md"
MODULES = "reference/*.md"


def on_config(config):
    """Replaces patterns in the navigation (``how-to/steering/*.md``) by the pages that fit them, in order."""
    config.nav = [_spread(entry) for entry in config.nav]
    return config


@event_priority(100)  # before mkdocs-jupyter, which looks for notebooks among the files
def on_files(files, config):
    """Adds lessons, notebooks and the changelog, which live outside of docs/, and the pages of recipes and modules."""
    for path in (ROOT / "CHANGELOG.md", *(path for pattern in ELSEWHERE for path in sorted(ROOT.glob(pattern)))):
        place = path.relative_to(ROOT)
        root = EXECUTED if _is_executed(path, EXECUTED / place) else ROOT
        files.append(File(str(place), str(root), config.site_dir, config.use_directory_urls))
    for place, text in {**recipe_pages.pages(), **reference_pages.pages()}.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Appends the package's names to the API page; takes the changelog's links as seen from docs/."""
    if page.file.src_uri == "CHANGELOG.md":
        return markdown.replace("](docs/", "](")
    if page.file.src_uri != "api.md":
        return markdown
    return f"{markdown}\n{reference_pages.names()}"


def _is_executed(path: Path, copy: Path) -> bool:
    """Whether a copy is of the notebook as it is now, outputs aside."""
    return path.suffix == ".ipynb" and copy.exists() and _sources(path) == _sources(copy)


def _sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"]]


def _spread(entry):
    if isinstance(entry, dict):
        return {title: _spread(below) for title, below in entry.items()}
    if isinstance(entry, list):
        return [page for below in entry for page in (_matching(below) if _is_pattern(below) else [_spread(below)])]
    return entry


def _is_pattern(entry) -> bool:
    return isinstance(entry, str) and "*" in entry


def _matching(pattern: str) -> list:
    if pattern == RECIPES:
        return recipe_pages.navigation()
    if pattern == MODULES:
        return reference_pages.navigation()
    folder = ROOT if pattern in ELSEWHERE else ROOT / "docs"
    found = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern) if path.name != "index.md")
    if not found:
        raise FileNotFoundError(f"mkdocs.yml: no page fits {pattern!r}")
    return found
