"""The lessons and notebooks that come with the package, and copies of them to work in."""

import json
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cmrm_interp.errors import StoreError
from cmrm_interp.store import PathLike

NOTEBOOKS = ("tutorials/*.ipynb", "notebooks/*.ipynb", "notebooks/*/*.ipynb")
DATA = "*.json"
"""What notebooks read; in a copy they find it in the folder ``data`` beside their own."""


@dataclass(frozen=True)
class Copied:
    """What came of copying.

    Attributes:
        folder: where the copies are.
        written: files that were written, as paths below the folder.
        same: files that were there already, as they are in the package.
        kept: files that were there and differ; they were left alone.
    """

    folder: Path
    written: tuple[Path, ...]
    same: tuple[Path, ...]
    kept: tuple[Path, ...]


def shipped() -> dict[Path, Path]:
    """Files that come with the package, by their place in a copy: package data, or those of a source tree.

    Raises:
        StoreError: they are in neither place.
    """
    package = Path(str(files("cmrm_interp")))
    for root, data in ((package / "_data", package / "_data"), (package.parent, package.parent / "data")):
        found = {path.relative_to(root): path for pattern in NOTEBOOKS for path in sorted(root.glob(pattern))}
        if found:
            return found | {Path("data", path.name): path for path in sorted(data.glob(DATA))}
    raise StoreError("the lessons were not installed: install cmrm-interp from its wheel or source")


def lessons() -> dict[Path, str]:
    """Titles of lessons and notebooks by their path, in the order of reading."""
    return {place: title(path) for place, path in shipped().items() if path.suffix == ".ipynb"}


def copy(folder: PathLike, force: bool = False) -> Copied:
    """Put lessons, notebooks and what they read into a folder.

    Args:
        folder: is made where there is none.
        force: replace files that differ; otherwise they are left alone.

    Raises:
        StoreError: the folder cannot be written.
    """
    out = Path(folder)
    found: dict[str, list[Path]] = {"written": [], "same": [], "kept": []}
    for place, path in shipped().items():
        found[_copy_one(path, out / place, force)].append(place)
    return Copied(out, **{what: tuple(paths) for what, paths in found.items()})


def title(path: Path) -> str:
    """The first heading of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = (line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).split("\n"))
    return next((line.lstrip("# ") for line in lines if line.startswith("# ")), path.stem)


def _copy_one(source: Path, target: Path, force: bool) -> str:
    try:
        if target.exists() and target.read_bytes() == source.read_bytes():
            return "same"
        if target.exists() and not force:
            return "kept"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise StoreError(f"{target} was not written ({error.strerror or error}): choose another folder") from error
    return "written"
