"""The reference: a page for each module or package at the top of `cmrm_interp`, made of the docstrings."""

from pathlib import Path
from types import ModuleType

import cmrm_interp

ROOT = Path(__file__).parent.parent
FOLDER = "reference"


def pages() -> dict[str, str]:
    """Markdown of each page by its place in the site."""
    found: dict[str, list[str]] = {}
    for name in public_modules():
        found.setdefault(name.split(".")[1], []).append(name)
    return {f"{FOLDER}/{top}.md": _page(top, modules) for top, modules in found.items()}


def navigation() -> list[str]:
    """The pages in order."""
    return sorted(pages())


def names() -> str:
    """The names of the package itself as a list, each a link to its page."""
    return "".join(f"- {_linked(name)}\n" for name in sorted(cmrm_interp.__all__))


def public_modules() -> list[str]:
    """Dotted names of the package's modules, without private ones and packages that define nothing themselves."""
    modules = [path for path in ROOT.glob("cmrm_interp/**/*.py") if "/_" not in path.as_posix()]
    packages = [
        path.parent for path in ROOT.glob("cmrm_interp/*/**/__init__.py") if "\ndef " in path.read_text("utf-8")
    ]
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in [*modules, *packages])


def _page(top: str, modules: list[str]) -> str:
    boost = "---\nsearch:\n  boost: 0.3\n---\n\n"  # the pages that explain come before
    return f"{boost}# {top}\n" + "".join(f"\n::: {name}\n" for name in modules)


def _linked(name: str) -> str:
    """A name of the package itself, as a link to where it is told, or, if it only gathers, to its modules' page."""
    value = getattr(cmrm_interp, name)
    if not isinstance(value, ModuleType):
        return f"[`ci.{name}`][{value.__module__}.{value.__name__}]"
    top = value.__name__.split(".")[1]
    return f"[`ci.{name}`]({FOLDER}/{top}.md), a module"
