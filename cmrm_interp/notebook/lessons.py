"""The lessons and notebooks that come with the package, and copies of them to work in."""

import json
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cmrm_interp.errors import StoreError
from cmrm_interp.store import PathLike

# What a copy holds: each notebook finds its data where it lies beside it.
PATTERNS = ("tutorials/*.ipynb", "notebooks/*.ipynb", "notebooks/*/*.ipynb", "data/*.json")


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


def lessons_folder() -> Path:
    """Folder of the shipped lessons: package data, or the root of a source tree.

    Raises:
        StoreError: they are in neither place.
    """
    package = Path(str(files("cmrm_interp")))
    for folder in (package / "_data" / "lessons", package.parent):
        if any(folder.glob(PATTERNS[0])):
            return folder
    raise StoreError("the lessons were not installed: install cmrm-interp from its wheel or source")


def lessons() -> dict[Path, str]:
    """Titles of lessons and notebooks by their path, in the order of reading."""
    root = lessons_folder()
    return {path: title(root / path) for path in _shipped(root) if path.suffix == ".ipynb"}


def copy(folder: PathLike, force: bool = False) -> Copied:
    """Put lessons, notebooks and what they read into a folder.

    Args:
        folder: is made where there is none.
        force: replace files that differ; otherwise they are left alone.

    Raises:
        StoreError: the folder cannot be written.
    """
    root, out = lessons_folder(), Path(folder)
    found: dict[str, list[Path]] = {"written": [], "same": [], "kept": []}
    for path in _shipped(root):
        found[_copy_one(root / path, out / path, force)].append(path)
    return Copied(out, **{what: tuple(paths) for what, paths in found.items()})


def title(path: Path) -> str:
    """The first heading of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = (line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).split("\n"))
    return next((line.lstrip("# ") for line in lines if line.startswith("# ")), path.stem)


def _shipped(root: Path) -> list[Path]:
    return [path.relative_to(root) for pattern in PATTERNS for path in sorted(root.glob(pattern))]


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
