"""What came of a comparison: one table of all rows, costs, choices, tests, and the plot."""

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmrm_interp.compare.contenders import BARE, CMRM_LABEL, order
from cmrm_interp.compare.plan import HEADER
from cmrm_interp.compare.result import FILE, LOGS, Result
from cmrm_interp.errors import InputError, StoreError
from cmrm_interp.records import Record
from cmrm_interp.reports.report import Report
from cmrm_interp.reports.wide import MISSING, cell
from cmrm_interp.specs import slug
from cmrm_interp.store import write_whole

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TOLD = {"harmful": ("unsafe", "neither"), "benign": ("over-refused",), "questions": ("right",)}
"""What the table tells of each kind of suite."""

BASELINES = (BARE, CMRM_LABEL)
"""Rows that the others are tested against."""

COSTS = ("time a token", "decoder tokens", "new tokens", "held (KiB)", "extra (KiB)", "fit (s)", "choose (s)")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Every contender on every model; made by `ci.compare`, or read back by `Comparison.of`.

    Attributes:
        results: one a model and contender, those that were not run too.
        folder: of it.
    """

    results: tuple[Result, ...]
    folder: Path

    @classmethod
    def of(cls, folder: str | os.PathLike[str]) -> "Comparison":
        """All that a folder holds: every model and recipe that any call came to an end with.

        Raises:
            StoreError: it holds no comparison, or one that cannot be read.
        """
        path = Path(folder)
        if not (path / HEADER).is_file():
            raise StoreError(f"{path} holds no comparison (there is no {HEADER}): give the out= of ci.compare")
        found = [Result.load(file.parent) for file in sorted(path.glob(f"*/*/{FILE}"))]
        known = [one for one in found if one is not None]
        return cls(tuple(sorted(known, key=lambda one: (one.model, order(one.label), one.label))), path)

    def only(self, models: Collection[str] | None = None, labels: Collection[str] | None = None) -> "Comparison":
        """Some of the models and contenders; None for all.

        Raises:
            InputError: nothing is left.
        """
        kept = [
            one
            for one in self.results
            if (models is None or one.model in models) and (labels is None or one.label in labels)
        ]
        if not kept:
            raise InputError(f"nothing of {', '.join([*(models or ()), *(labels or ())])} is in {self.folder}")
        return Comparison(tuple(kept), self.folder)

    def __repr__(self) -> str:
        """How many were run, one line."""
        models = len({one.model for one in self.results})
        return f"Comparison({models} models, {len(self.ran)} rows run, {len(self.results) - len(self.ran)} not)"

    @property
    def plan(self) -> dict[str, Any]:
        """What was alike for all: budget, judge, suites, anchors, decoding."""
        return json.loads((self.folder / HEADER).read_text(encoding="utf-8"))

    @property
    def ran(self) -> tuple[Result, ...]:
        """Those that were run."""
        return tuple(one for one in self.results if not one.why_not)

    @cached_property
    def report(self) -> Report:
        """The report of those that were run: rates with intervals, tests, means over models, the trade-off.

        Raises:
            InputError: none was run.
        """
        if not self.ran:
            raise InputError(f"nothing was run: {'; '.join(sorted({one.why_not for one in self.results}))}")
        return Report.of(*(self.folder_of(one) / LOGS for one in self.ran))

    def folder_of(self, result: Result) -> Path:
        """Where a row's choice, logs and recipe are."""
        return self.folder / slug(result.model) / slug(result.label)

    def table(self, intervals: bool = True) -> "pd.DataFrame":
        """One row a model and contender: rates in per cent, costs, what was chosen; and why a row was not run.

        Args:
            intervals: cells with 95 % Wilson intervals, as text; else as plain numbers.

        Raises:
            InputError: no row has come to an end yet.
        """
        import pandas as pd

        if not self.results:
            raise InputError(f"nothing in {self.folder} has come to an end yet: no row is whole")
        rates = self._rates(intervals) if self.ran else {}
        columns = list(dict.fromkeys(name for row in rates.values() for name in row))
        rows = []
        for one in self.results:
            own = rates.get((one.model, one.label), {})
            told = {name: own.get(name, MISSING) for name in columns} | costs(one)
            rows.append({**told, "chosen": one.settings, "not run": one.why_not})
        index = pd.MultiIndex.from_tuples([(one.model, one.label) for one in self.results], names=["model", "defence"])
        return pd.DataFrame(rows, index=index)

    def costs(self) -> "pd.DataFrame":
        """Cost of each row that was run, as numbers."""
        import pandas as pd

        index = pd.MultiIndex.from_tuples([(one.model, one.label) for one in self.ran], names=["model", "defence"])
        return pd.DataFrame([_numbers(one) for one in self.ran], index=index)

    def tests(self, baseline: str) -> "pd.DataFrame":
        """McNemar's exact tests of every row against one, on the same prompts, with Holm's correction for all of them.

        Args:
            baseline: label of the row that the others are tested against.

        Raises:
            InputError: no row of that label was run.
        """
        return self.report.comparisons(baseline, metrics=("unsafe", "over-refused", "right"))

    def plot(self) -> "Figure":
        """Unsafe answers against utility, a panel a model."""
        return self.report.plot()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the report's files, ``defences.csv`` (the table as numbers), and tests against the bare model and CMRM.

        Raises:
            StoreError: it cannot be written.
        """
        path = self.report.save(folder)
        write_whole(path / "defences.csv", self.table(intervals=False).to_csv().encode())
        for baseline in BASELINES:
            if any(one.label == baseline for one in self.ran):
                write_whole(path / tests_file(baseline), self.tests(baseline).to_csv(index=False).encode())
        return path

    def _rates(self, intervals: bool) -> dict[tuple[str, str], dict[str, Any]]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for model, defence, column, record in self.outcomes():
            found.setdefault((model, defence), {})[column] = cell(record) if intervals else 100 * record.value
        return found

    @cached_property
    def told(self) -> frozenset[tuple[str, str]]:
        """Suite and metric of every outcome that the table shows."""
        kinds = {answer.suite: answer.kind for answer in self.report.answers}
        return frozenset((suite, metric) for suite, kind in kinds.items() for metric in TOLD.get(kind, ()))

    def outcomes(self) -> Iterator[tuple[str, str, str, Record]]:
        """Model, row and column of every outcome that the table shows, and the outcome."""
        for record in self.report.outcomes:
            model, defence, suite = (str(record.condition[name]) for name in ("checkpoint", "defence", "suite"))
            if (suite, record.metric) in self.told:
                yield model, defence, f"{record.metric}: {suite}", record


def tests_file(baseline: str) -> str:
    """The file of the tests against a row."""
    return f"tests-{slug(baseline)}.csv"


def costs(one: Result) -> dict[str, str]:
    """Cost of a row in words, by column."""
    if one.cost is None:
        return dict.fromkeys(COSTS, MISSING)
    cost = one.cost
    words = (
        f"{cost.ratio:.2f}x [{cost.ratio_low:.2f}, {cost.ratio_high:.2f}]",
        f"{cost.decoder_tokens:.1f}",
        f"{cost.new_tokens:.1f}",
        f"{cost.held_bytes / 1024:.1f}",
        f"{cost.extra_bytes / 1024:.0f}",
        f"{one.fit_seconds:.1f}",
        f"{one.choose_seconds:.0f}",
    )
    return dict(zip(COSTS, words, strict=True))


def _numbers(one: Result) -> dict[str, Any]:
    spent = {"fit_seconds": one.fit_seconds, "choose_seconds": one.choose_seconds}
    return {**({} if one.cost is None else asdict(one.cost)), **spent}
