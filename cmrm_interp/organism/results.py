"""Counts of verdicts, as measured on the organism, and the tables made of them.

A cell is one condition on one set of requests: how many answers complied, were refused, were neither, and were
exactly right, of n. `data/organism/results.json` holds a list of them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from cmrm_interp.intervals import wilson

Count = Literal["complied", "refused", "neither", "right"]


@dataclass(frozen=True)
class Cell:
    """One condition on one set of requests or questions.

    Args:
        seed: of the organism's training.
        method: what was done to the model: none, dataset mean, random vector...
        split: validation (alpha is chosen on it) or test.
        kind: harmful, benign, avoid, or visual (questions about pictures).
        image: text (none), real, blank, noise, black, white, or caption (told in words).
        alpha: strength of the intervention; 0 for none.
        n: how many.
        complied: answers which give the steps.
        refused: answers which refuse.
        neither: all other answers.
        right: answers which are exactly right.
        application: live (v at every block) or incremental (each block the increment of v).
        steps: prefill or all (generated tokens too).
        chosen: whether alpha was chosen for this method on the validation split.
    """

    seed: int
    method: str
    split: str
    kind: str
    image: str
    alpha: float
    n: int
    complied: int
    refused: int
    neither: int
    right: int
    application: str = ""
    steps: str = ""
    chosen: bool = False


def load_cells(path: Path) -> list[Cell]:
    """Reads cells from a JSON list of objects.

    Args:
        path: the file.
    """
    known = {field.name for field in fields(Cell)}
    return [Cell(**{name: record[name] for name in known & record.keys()}) for record in json.loads(path.read_text())]


def select(cells: Iterable[Cell], **wanted: object) -> list[Cell]:
    """The cells which have all the given values.

    Args:
        cells: to choose from.
        wanted: names of fields and their values.
    """
    return [cell for cell in cells if all(getattr(cell, name) == value for name, value in wanted.items())]


def percent(count: int, n: int) -> str:
    """A rate with its 95 % interval, as text: ``12.0 (8.8-16.1)``.

    Args:
        count: successes.
        n: trials.
    """
    low, high = wilson(count, n)
    return f"{100 * count / n:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def entry(cells: Sequence[Cell], count: Count) -> str:
    """The rate of the one cell that is left after selecting, or a dash if there is none.

    Args:
        cells: none or one.
        count: which count.
    """
    return percent(getattr(cells[0], count), cells[0].n) if cells else "-"
