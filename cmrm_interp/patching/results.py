"""What came of patching: the metric of every cell, and how much of the way between the two runs it is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cmrm_interp.errors import InputError
from cmrm_interp.markup import first_rows
from cmrm_interp.sweeps import SweepResult
from cmrm_interp.sweeps.pictures import Kind, picture

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Runs whose metric differs by less than this share of its size have nothing between them.
NEAR = 1e-3
_UNIT = "share recovered"


@dataclass(frozen=True, eq=False)
class PatchingResult:
    """What came of patching.

    Attributes:
        raw: the metric of every patched run; what a sweep calls clean is the run that was patched into.
        source: metric to its value in the run that was patched from, of every prompt.
        direction: ``"denoise"`` or ``"noise"``.
        title: what was patched.
    """

    raw: SweepResult
    source: Mapping[str, np.ndarray]
    direction: str
    title: str

    def __repr__(self) -> str:
        """Axes and both runs, one line."""
        runs = [f"{m} {self._into(m).mean():.3g} to {self.source[m].mean():.3g}" for m in self.raw.metrics]
        axes = " x ".join(f"{name} {len(labels)}" for name, labels in self.raw.axes.items())
        same = [m for m in self.raw.metrics if not self._differs(m)]
        none = f"; the runs do not differ in {', '.join(same)}" if same else ""
        return f"PatchingResult({self.title}, {self.direction}: {axes}; {'; '.join(runs)}; {self.raw.n} prompts{none})"

    def _repr_html_(self) -> str:
        """The first rows, for notebooks."""
        return first_rows(repr(self), self.table())

    @cached_property
    def recovered(self) -> SweepResult:
        """The metric on a scale on which 0 is the run that was patched into and 1 the one that was patched from.

        ``(patched - into) / (mean(from) - mean(into))`` of every prompt, so that its mean is that of the means. The
        intervals take the distance of the two runs as it was measured.

        Raises:
            InputError: the runs do not differ.
        """
        for metric in self.raw.metrics:
            self._check(metric)
        ledger = self.raw.ledger
        gaps = {metric: float((self.source[metric] - self._into(metric)).mean()) for metric in self.raw.metrics}
        values = {metric: (ledger.values[metric] - self._into(metric)) / gap for metric, gap in gaps.items()}
        about = tuple(replace(one, unit=_UNIT, share=False) for one in ledger.header.metrics)
        header = replace(ledger.header, metrics=about)
        return SweepResult(replace(ledger, header=header, values=values, file=None))

    def by_prompt(self, metric: str | None = None) -> np.ndarray:
        """The same with each prompt's own distance of its two runs, ``*axes prompts``; NaN where this is near zero.

        Args:
            metric: may be left out where there is one.

        Raises:
            InputError: no such metric, or no prompt's runs differ.
        """
        values, into = self.raw.values(metric), self.raw.values(metric, clean=True)
        name = metric or self.raw.metrics[0]
        gap = self.source[name] - self._into(name)
        near = np.abs(gap) <= NEAR * _size(self.source[name], self._into(name))
        if near.all():
            self._check(name)
        return (values - into) / np.where(near, np.nan, gap)

    def table(self) -> "pd.DataFrame":
        """One row a cell and metric: axes, metric, value, low, high, n, into, from, recovered.

        ``into`` and ``from`` are the means of the two runs, ``recovered`` how much of the way between them the patch
        went (None where they do not differ); low and high (95 %) are those of the value.
        """
        frame = self.raw.table().rename(columns={"clean": "into"}).drop(columns=["change"])
        frame["from"] = [float(self.source[metric].mean()) for metric in frame["metric"]]
        differs = [self._differs(metric) for metric in frame["metric"]]
        gap = (frame["from"] - frame["into"]).where(differs)
        return frame.assign(recovered=(frame["value"] - frame["into"]) / gap)

    def plot(self, metric: str | None = None, kind: Kind = "auto") -> "Figure":
        """The picture of what was recovered; of the metric itself where the two runs do not differ in it.

        Args:
            metric: may be left out where there is one.
            kind: ``"lines"``, ``"points"`` or ``"heatmap"``, to choose for oneself.
        """
        differ = all(self._differs(name) for name in self.raw.metrics)
        shown = self.recovered if differ else self.raw
        about = shown.about(metric)
        return picture(shown.table_of(about.name), shown.axes, about, kind, "run patched into")

    def _into(self, metric: str) -> np.ndarray:
        return self.raw.ledger.values[metric][-1]

    def _differs(self, metric: str) -> bool:
        into, source = self._into(metric), self.source[metric]
        return bool(abs(source.mean() - into.mean()) > NEAR * _size(into, source))

    def _check(self, metric: str) -> None:
        if not self._differs(metric):
            raise InputError(
                f"{metric!r} is {self._into(metric).mean():.4g} in the run that was patched into and"
                f" {self.source[metric].mean():.4g} in the other: there is nothing between them to recover; choose a"
                " metric in which they differ, or look at .raw"
            )


def _size(a: np.ndarray, b: np.ndarray) -> float:
    return max(float(np.abs(a).max()), float(np.abs(b).max()), np.finfo(float).tiny)
