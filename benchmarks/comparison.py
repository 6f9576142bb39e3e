"""Tasks side by side: outputs compared first, then timed in turn; ratios within rounds."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Task, measure

# Largest difference from the reference's output, as a share of the largest of its numbers; sums in fp32.
TOLERANCE = 1e-4
PLAIN, HOOKS, EAGER, OURS = "plain Hugging Face", "hooks", "hooks, eager attention", "cmrm_interp"
NNSIGHT, LENS, PYVENE = "nnsight by hand", "TransformerLens", "pyvene"


class DifferentOutput(RuntimeError):
    """Two libraries do not compute the same: their times mean nothing."""


@dataclass(frozen=True)
class Entry:
    """One library's way of doing a task.

    Attributes:
        library: whose.
        call: does it, and returns a tensor.
        like: the library whose output it must equal; None for one that computes something else.
    """

    library: str
    call: Callable[[], Tensor]
    like: str | None = HOOKS


@dataclass(frozen=True)
class Group:
    """Entries that are timed in turn.

    Attributes:
        task: for the table.
        case: name of model and inputs.
        entries: the libraries.
        repeats, warmup: rounds that are counted, and that are not.
    """

    task: str
    case: str
    entries: Sequence[Entry]
    repeats: int
    warmup: int = 1


@dataclass(frozen=True)
class Measured:
    """What was measured of a group.

    Attributes:
        task, case: of the group.
        seconds: of each library, round by round.
        cpu: the processor's seconds in the same rounds.
        apart: largest difference of each library's output from its reference's.
        failed: libraries that could not do it, and why.
    """

    task: str
    case: str
    seconds: dict[str, list[float]]
    cpu: dict[str, list[float]]
    apart: dict[str, float]
    failed: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """How much longer one library takes than another.

    Attributes:
        median: of the ratios of the rounds.
        low, high: quartiles of these.
        floor: ratio of the shortest times.
        rounds: how many there are.
    """

    median: float
    low: float
    high: float
    floor: float
    rounds: int


def compare(group: Group, device: torch.device) -> Measured:
    """Check a group's outputs, then time it.

    Raises:
        DifferentOutput: an output differs from its reference's by more than `TOLERANCE`.
    """
    outputs: dict[str, Tensor] = {}
    apart: dict[str, float] = {}
    for entry in group.entries:
        outputs[entry.library] = entry.call()
        if entry.like in (None, entry.library):
            continue
        apart[entry.library] = difference(outputs[entry.library], outputs[entry.like])
        if not apart[entry.library] <= TOLERANCE:
            raise DifferentOutput(
                f"{group.task}, {group.case}: {entry.library}'s output is {apart[entry.library]:.1e} away from"
                f" {entry.like}'s (of its largest number; {TOLERANCE:g} is allowed)"
            )
    del outputs
    tasks = [Task(entry.library, entry.call) for entry in group.entries]
    timings = measure(tasks, group.warmup, group.repeats, device)
    seconds = {name: timing.seconds for name, timing in timings.items()}
    return Measured(group.task, group.case, seconds, {n: t.cpu_seconds for n, t in timings.items()}, apart)


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference of two outputs, as a share of the expected one's largest number; infinite for other shapes."""
    if found.shape != expected.shape:
        return math.inf
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).abs().max() / expected.abs().max())


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Ratio of two series of times that were taken round by round."""
    rounds = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, median, high = statistics.quantiles(rounds, n=4, method="inclusive") if len(rounds) > 1 else rounds * 3
    return Ratio(median, low, high, min(ours) / min(theirs), len(rounds))
