"""The report of an evaluation: tables with intervals, paired tests, means over checkpoints, safety against utility."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cmrm_interp.errors import InputError
from cmrm_interp.markup import first_rows
from cmrm_interp.records import Record, to_frame
from cmrm_interp.reports import document
from cmrm_interp.reports.answered import Answered
from cmrm_interp.reports.comparisons import MAIN, Between, compare
from cmrm_interp.reports.counting import count
from cmrm_interp.reports.measures import Measure, measures
from cmrm_interp.reports.merging import merged
from cmrm_interp.reports.origins import differences
from cmrm_interp.reports.pareto import Over, tradeoff
from cmrm_interp.reports.pooled import pooled
from cmrm_interp.reports.wide import measure_of, tall, wide

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Report:
    """What came out of evaluations: any models, under any defences, on any suites, by any judges.

    What is counted, and over which answers, is said in `Measure`.

    Attributes:
        answers: one a checkpoint, defence, suite and prompt; what several logs say of the same answer is put together.

    Raises:
        InputError: there are no answers.
        MismatchError: two different answers to one prompt under one name.
    """

    answers: tuple[Answered, ...]

    def __post_init__(self) -> None:
        """Put together what belongs together."""
        if not self.answers:
            raise InputError("a report needs answers: these logs hold none")
        object.__setattr__(self, "answers", merged(self.answers))

    @classmethod
    def of(cls, *paths: str | os.PathLike[str]) -> "Report":
        """The report of logs, or of folders of them.

        Raises:
            StoreError: a path is not there, holds no log, or a log is incomplete or cannot be read.
        """
        from cmrm_interp.reports.logs import answered

        return cls(tuple(answered(paths)))

    def __add__(self, other: "Report") -> "Report":
        """Both reports as one."""
        return Report(self.answers + other.answers)

    def __repr__(self) -> str:
        """Checkpoints, defences, suites and answers, one line."""
        names = ("checkpoint", "defence", "suite")
        counts = {name: len({getattr(one, name) for one in self.answers}) for name in names}
        parts = [f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items()]
        return f"Report({', '.join(parts)}, {len(self.answers)} answers)"

    def _repr_html_(self) -> str:
        return first_rows(repr(self), self.table(), index=True)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """What was measured, in the order of the tables."""
        return tuple(measures(self.answers))

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """One a checkpoint, defence, suite, judge and metric, with n, interval and provenance."""
        return count(self.answers)

    @cached_property
    def outcomes(self) -> tuple[Record, ...]:
        """The records of what answers are worth."""
        return tuple(record for record in self.records if measure_of(record).is_outcome)

    @cached_property
    def costs(self) -> tuple[Record, ...]:
        """The records of what answers cost and how fluent they are."""
        return tuple(record for record in self.records if not measure_of(record).is_outcome)

    @property
    def several_checkpoints(self) -> bool:
        """Whether there is more than one."""
        return len({answer.checkpoint for answer in self.answers}) > 1

    def table(self, intervals: bool = True, metrics: Sequence[str] | None = None) -> "pd.DataFrame":
        """Defences down (with the checkpoint, where there are several), suites and metrics across; shares in per cent.

        Where a suite has several judges, columns begin with the judge.

        Args:
            intervals: cells as ``61.5 [58.6, 64.3]`` with the 95 % interval; else as plain numbers.
            metrics: which of the outcomes; None for all.

        Raises:
            InputError: a metric that there is not.
        """
        if metrics is None:
            return wide(self.outcomes, self.measures, intervals)
        for metric in metrics:
            self._of_metric(metric)
        return wide([record for record in self.records if record.metric in metrics], self.measures, intervals)

    def numbers(self, intervals: bool = True) -> "pd.DataFrame":
        """Cost and fluency (seconds, tokens, memory, perplexity...): suites and defences down, means across."""
        return tall(self.costs, intervals)

    def rates(self, metric: str) -> "pd.DataFrame":
        """One metric of every checkpoint, defence and suite, as a long table with intervals.

        Raises:
            InputError: a metric that there is not.
        """
        return to_frame(self._of_metric(metric))

    def comparisons(
        self,
        baseline: str | None = None,
        between: Between = "defences",
        every: bool = False,
        metrics: Sequence[str] = MAIN,
    ) -> "pd.DataFrame":
        """Paired tests between defences, or between checkpoints, corrected for their number: see `compare`."""
        return compare(self.answers, baseline, between, every, metrics)

    def pooled(self) -> "pd.DataFrame":
        """Means over checkpoints (training seeds), with intervals and each one's value: see `pooled`."""
        return pooled(self.answers)

    def tradeoff(self, utility: str | None = None, over: Over = "mean", judge: str | None = None) -> "pd.DataFrame":
        """Utility, unsafe answers and cost of each defence, and which no other one beats: see `tradeoff`."""
        return tradeoff(self.answers, utility, over, judge)

    def plot(self, utility: str | None = None, over: Over = "mean", judge: str | None = None) -> "Figure":
        """Unsafe answers against utility, a panel a checkpoint: see `tradeoff`."""
        from cmrm_interp.plots import pareto

        panel = "checkpoint" if self.several_checkpoints else ""
        return pareto(self.tradeoff(utility, over, judge), "utility", "unsafe", "defence", panel)

    def differences(self) -> list[str]:
        """In words, in what rows differ that should not: prompts, dtype, template, decoding..."""
        return differences(self.answers)

    def only(self, checkpoint: str | None = None, defence: str | None = None, suite: str | None = None) -> "Report":
        """The report of one checkpoint, defence or suite.

        Raises:
            InputError: there is none of that name.
        """
        wanted = {"checkpoint": checkpoint, "defence": defence, "suite": suite}
        for name, value in wanted.items():
            there = dict.fromkeys(getattr(answer, name) for answer in self.answers)
            if value is not None and value not in there:
                raise InputError(f"there is no {name} {value!r}: there are {', '.join(map(repr, there))}")
        fits = {name: value for name, value in wanted.items() if value is not None}
        return Report(tuple(a for a in self.answers if all(getattr(a, name) == value for name, value in fits.items())))

    def by(self, name: str) -> "Report":
        """The same answers with each suite in parts, by something that the data says of its prompts (a category).

        Args:
            name: of it; prompts of which the data does not say it stay under the suite's own name.

        Raises:
            InputError: the data says it of no prompt.
        """
        if not any(name in answer.about for answer in self.answers):
            there = dict.fromkeys(key for answer in self.answers for key in answer.about)
            raise InputError(f"no prompt has {name!r}: the data says {', '.join(there) or 'nothing'} of them")
        return Report(
            tuple(replace(a, suite=f"{a.suite}, {a.about[name]}") if name in a.about else a for a in self.answers)
        )

    def markdown(self) -> str:
        """The tables as Markdown, with what must be said under them."""
        return document.document(self)

    def latex(self) -> str:
        """The table of outcomes as LaTeX, for the package booktabs.

        Raises:
            InputError: no outcome was measured.
        """
        return document.paper_table(self)

    def save(self, folder: str | os.PathLike[str], baseline: str | None = None) -> Path:
        """Write all of it into a folder.

        ``table.md``, ``table.tex`` and ``table.csv`` (long, with all provenance), ``comparisons.csv``, ``pareto.png``,
        ``records.jsonl`` and ``answers.jsonl``; ``pooled.csv`` where there are several checkpoints.

        Args:
            folder: is made; what has these names in it is replaced.
            baseline: defence that the others are tested against; None for the first.

        Raises:
            InputError: there is no such baseline.
            StoreError: it cannot be written.
        """
        return document.save(self, folder, baseline)

    def _of_metric(self, metric: str) -> list[Record]:
        found = [record for record in self.records if record.metric == metric]
        if not found:
            there = dict.fromkeys(record.metric for record in self.records)
            raise InputError(f"there is no metric {metric!r}: there are {', '.join(there)}")
        return found
