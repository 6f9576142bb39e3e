"""Anchors from where a command line or a log says they are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmrm_interp import datasets
from cmrm_interp.arguments import check_arguments
from cmrm_interp.datasets.loading import load_suite
from cmrm_interp.datasets.registry import benchmarks
from cmrm_interp.datasets.suites import organism_anchors
from cmrm_interp.errors import InputError
from cmrm_interp.prompts import Prompt
from cmrm_interp.specs import Spec

CLASSES = "classes"
Anchors = str | Sequence[str | Prompt] | None


def anchors_of(source: Anchors, organism: bool = False) -> Sequence[Prompt]:
    """Prompts to fit on.

    Args:
        source: prompts or texts as they are; ``organism`` (with ``n``, ``seed`` and ``images``); a ``.txt`` file with
            a prompt a line; a ``.jsonl`` file with ``text`` and perhaps ``image`` (a path from its folder) and
            ``system``; a suite, as `cmrm_interp.datasets.load_suite` takes it (``paper_anchors:...``,
            ``vlsafe:...,split=anchor``); ``classes:harmful=FILE,harmless=FILE``, each of them one of the above, for
            recipes that need both classes; None for the organism's own.
        organism: whether the model is an organism.

    Raises:
        InputError: none were named for another model, or the file is missing, empty, or has a row that is no prompt.
    """
    if source is None and not organism:
        raise InputError(
            "this defence is fitted on prompts, and none were given: anchors=FILE (.txt with one a line, or .jsonl), or"
            " a suite, anchors=vlsafe:file=...,images=...,split=anchor"
        )
    if isinstance(source, datasets.Anchors):
        return source
    if source is not None and not isinstance(source, str):
        return [Prompt(item) if isinstance(item, str) else item for item in source]
    asked = Spec.parse(source or "organism")
    if asked.name == "organism":
        check_arguments("the anchors of the organism", asked.settings, ("n", "seed", "images"))
        return organism_anchors(**asked.settings)
    if asked.name == CLASSES:
        return _of_classes(asked.settings)
    if asked.name in benchmarks():
        return list(load_suite(asked).prompts)
    return _from_file(Path(asked.name))


def _of_classes(settings: Any) -> datasets.Anchors:
    check_arguments("anchors of two classes", settings, ("harmful", "harmless"))
    for name in ("harmful", "harmless"):
        if name not in settings:
            raise InputError(f"anchors of two classes without {name}=: give {CLASSES}:harmful=FILE,harmless=FILE")
    return datasets.Anchors(anchors_of(str(settings["harmful"])), anchors_of(str(settings["harmless"])))


def _from_file(path: Path) -> list[Prompt]:
    readers = {".txt": _line, ".jsonl": _row}
    if path.suffix not in readers:
        raise InputError(
            f"anchors={path}: give a .txt file with a prompt a line, a .jsonl file, a suite, or 'organism'"
        )
    if not path.is_file():
        raise InputError(f"anchors={path}: there is no such file")
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    prompts = [readers[path.suffix](line, path, number) for number, line in lines if line.strip()]
    if not prompts:
        raise InputError(f"anchors={path}: the file has no prompts")
    return prompts


def _line(line: str, path: Path, number: int) -> Prompt:
    return Prompt(line.strip())


def _row(line: str, path: Path, number: int) -> Prompt:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}, line {number}: no JSON ({error})") from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
        raise InputError(f"{path}, line {number}: a row needs 'text', the prompt; image and system are optional")
    image = row.get("image")
    return Prompt(row["text"], None if image is None else path.parent / image, row.get("system"))
