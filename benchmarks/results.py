"""Rows and targets: ratios of what was measured side by side, as a table."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.comparison import EAGER, HOOKS, LENS, NNSIGHT, OURS, PLAIN, PYVENE, Ratio, ratio
from benchmarks.sides import ABLATION, CAPTURE, LOOPS, PATCH_LAST, SAMPLE, STEER, SWEEP

LLAVA, ORGANISM = "LLaVA shape", "organism"
# What this package is to reach: at most so many times the plain call, or for loops at least so many times faster.
TARGETS = {
    (CAPTURE, LLAVA): 1.05,
    (CAPTURE, ORGANISM): 1.25,
    (STEER, LLAVA): 1.10,
    (SAMPLE, LLAVA): 1.30,
    (SWEEP, LLAVA): 25.0,
    (ABLATION, LLAVA): 1.8,
    (PATCH_LAST, LLAVA): 5.0,
}
LIBRARIES = (OURS, HOOKS, EAGER, NNSIGHT, LENS, PYVENE)
IMPORT_SECONDS, MEMORY_GROWTH = 0.3, 0.1


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        task, case, library: what did what.
        against: with what it is compared.
        ratio: of times: of the library to the other, or for a loop of the other to the library.
        cpu: the same of the processor's times, which other work on the machine does not lengthen.
        faster: whether it says how many times faster the library is.
        target: bound of the ratio, or None.
        apart: largest difference of the outputs, as a share of the largest number; None where they are not to agree.
    """

    task: str
    case: str
    library: str
    against: str
    ratio: Ratio
    cpu: Ratio
    faster: bool = False
    target: float | None = None
    apart: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met by the median; None where there is none."""
        if self.target is None:
            return None
        return self.ratio.median >= self.target if self.faster else self.ratio.median <= self.target


def rows_of(measured: Iterable[dict[str, Any]]) -> list[Row]:
    """Rows of all sides, task by task."""
    rows = [row for group in measured for row in _rows(group)]
    rows += _lens_to_ours(rows)
    order = {task: number for number, task in enumerate(dict.fromkeys(row.task for row in rows))}
    cases = {case: number for number, case in enumerate(dict.fromkeys(row.case for row in rows))}
    # Hooks are timed in every environment; one is enough to look at.
    first = {(row.task, row.case, row.library, row.against): row for row in reversed(rows)}
    return sorted(first.values(), key=lambda row: (order[row.task], cases[row.case], LIBRARIES.index(row.library)))


def _rows(group: dict[str, Any]) -> Iterator[Row]:
    task, case, seconds = group["task"], group["case"], group["seconds"]
    loop = task in LOOPS
    base = HOOKS if loop else PLAIN
    for library in seconds:
        if library == base:
            continue
        pair = (base, library) if loop else (library, base)
        wall, cpu = (ratio(times[pair[0]], times[pair[1]]) for times in (seconds, group["cpu"]))
        target = TARGETS.get((task, case.split(",")[0])) if library == OURS else None
        yield Row(task, case, library, base, wall, cpu, loop, target, group["apart"].get(library))


def _lens_to_ours(rows: list[Row]) -> Iterator[Row]:
    """How many times faster than TransformerLens: both were compared with plain calls or hooks, each in its process."""
    ours = {(row.task, row.case): row for row in rows if row.library == OURS}
    for row in rows:
        mine = ours.get((row.task, row.case)) if row.library == LENS else None
        if mine is None:
            continue
        one, other = (mine, row) if row.faster else (row, mine)
        wall, cpu = _quotient(one.ratio, other.ratio), _quotient(one.cpu, other.cpu)
        yield Row(row.task, row.case, OURS, LENS, wall, cpu, True, 1.0 if row.task == CAPTURE else None)


def _quotient(a: Ratio, b: Ratio) -> Ratio:
    return Ratio(a.median / b.median, a.low / b.high, a.high / b.low, a.floor / b.floor, min(a.rounds, b.rounds))


def table(rows: Iterable[Row]) -> str:
    """The rows as Markdown."""
    names = (
        "task, model & inputs, library, compared with, ratio, quartiles, of shortest, of processor time, target,"
        " outputs apart"
    )
    head = names.replace(", ", " | ")
    lines = [f"| {head} |", "|" + "--|" * 10]
    for row in rows:
        found, unit = row.ratio, "x faster" if row.faster else "x"
        target = "" if row.target is None else f"{'>=' if row.faster else '<='} {row.target:g}: {_word(row.met)}"
        apart = "" if row.apart is None else "0" if row.apart == 0 else f"{row.apart:.0e}"
        cells = (
            row.task,
            row.case,
            row.library,
            row.against,
            f"{found.median:.3g} {unit}",
            f"{found.low:.3g}-{found.high:.3g} ({found.rounds})",
            f"{found.floor:.3g}",
            f"{row.cpu.median:.3g}",
            target,
            apart,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _word(met: bool | None) -> str:
    return "met" if met else "**missed**"
