"""The result of a sweep: every metric of every cell at every prompt, with tables, tests and pictures."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmrm_interp.errors import InputError, StoreError
from cmrm_interp.markup import first_rows
from cmrm_interp.records import Record, Scalar, append
from cmrm_interp.significance import holm
from cmrm_interp.store import PathLike, write_whole
from cmrm_interp.sweeps import rows
from cmrm_interp.sweeps.header import About, Header
from cmrm_interp.sweeps.ledger import Ledger
from cmrm_interp.sweeps.pictures import Kind, picture
from cmrm_interp.sweeps.statistics import Alternative, p_values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RECORDS = "records.jsonl"


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What came of a sweep; made by `ci.sweep`.

    Attributes:
        ledger: every value.
    """

    ledger: Ledger

    def __post_init__(self) -> None:
        """Refuse a sweep that is not finished."""
        missing = int((~self.ledger.done).any(1).sum())
        if missing:
            raise StoreError(
                f"{missing} of {self.header.n_runs} runs of this sweep are not finished: call ci.sweep again with the"
                " same arguments and store= to go on"
            )

    @property
    def header(self) -> Header:
        """What the sweep was run with."""
        return self.ledger.header

    @property
    def axes(self) -> dict[str, tuple[Scalar, ...]]:
        """Values of each axis."""
        return dict(self.header.axes)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return tuple(about.name for about in self.header.metrics)

    @property
    def n(self) -> int:
        """Number of prompts."""
        return self.header.prompts

    @property
    def paths(self) -> np.ndarray:
        """How each cell was run, ``*axes``: ``"prefix"``, ``"resumed"`` or ``"whole"``."""
        return np.array(rows.paths_of(self.ledger)).reshape(self.header.shape)

    @property
    def reasons(self) -> dict[str, int]:
        """Why cells were run whole, with the number of cells."""
        n_cells = prod(self.header.shape)
        return dict(Counter(why for key, why in self.ledger.reasons.items() if key < n_cells))

    def __repr__(self) -> str:
        """Axes, metrics, prompts and paths, one line."""
        axes = " x ".join(f"{name} {len(labels)}" for name, labels in self.axes.items())
        ways = ", ".join(f"{count} {name}" for name, count in Counter(self.paths.flatten().tolist()).items())
        why = "".join(f"; {count} whole because {reason}" for reason, count in self.reasons.items())
        return f"SweepResult({axes}; {', '.join(self.metrics)}; {self.n} prompts; cells run: {ways}{why})"

    def _repr_html_(self) -> str:
        """The first rows, for notebooks."""
        return first_rows(repr(self), self._table)

    def values(self, metric: str | None = None, clean: bool = False) -> np.ndarray:
        """One metric at every prompt, ``*axes prompts``.

        Args:
            metric: may be left out where there is one.
            clean: of the clean model, in the same shape.

        Raises:
            InputError: no such metric, or several and none named.
        """
        found = self.ledger.values[self.about(metric).name]
        cells = rows.clean_of(self.header, found) if clean else found[: prod(self.header.shape)]
        return cells.reshape(*self.header.shape, self.n)

    def table(self) -> "pd.DataFrame":
        """One row a cell and metric: axes, metric, value, low, high, n, clean, change, path.

        ``value`` is the mean over prompts; ``low`` and ``high`` its 95 % interval, Wilson's for shares and else
        bootstrap (BCa, 2,000 resamples, seed 0; NaN for a single prompt); ``clean`` the mean of the model without
        interventions on the same inputs, and ``change`` what was added to it.
        """
        return self._table.copy()

    def test(self, metric: str | None = None, alternative: Alternative = "two-sided", seed: int = 0) -> "pd.DataFrame":
        """Paired permutation tests of each cell against the clean model, prompt by prompt.

        Args:
            metric: may be left out where there is one.
            alternative: ``"two-sided"``, ``"less"`` or ``"greater"`` (than the clean model).
            seed: of the sign flips (at least 9,999 and 200 a cell, or all where there are fewer).

        Returns:
            Axes, metric, change, n, p, p_holm (corrected for the number of cells).

        Raises:
            InputError: a single prompt, or another alternative.
        """
        if alternative not in ("two-sided", "less", "greater"):
            raise InputError(f"alternative={alternative!r}: use 'two-sided', 'less' or 'greater'")
        if self.n < 2:
            raise InputError("a paired test needs at least 2 prompts, and this sweep has 1")
        name = self.about(metric).name
        ours, clean = (self.values(name, which).reshape(-1, self.n) for which in (False, True))
        p = p_values(ours, clean, alternative, seed)
        return self.table_of(name)[[*self.axes, "metric", "change", "n"]].assign(p=p, p_holm=holm(p))

    def best(self, metric: str | None = None, highest: bool = True) -> "pd.Series":
        """The row of the table with the highest (or lowest) mean; the first of several.

        Chosen and measured on the same prompts, its value flatters: measure it again on others.

        Args:
            metric: may be left out where there is one.
            highest: False for the lowest.
        """
        frame = self.table_of(self.about(metric).name)
        return frame.loc[frame["value"].idxmax() if highest else frame["value"].idxmin()]

    def at(self, **chosen: Scalar) -> "SweepResult":
        """The part of the sweep at one value of each of some axes: ``result.at(alpha=1.0)``.

        Raises:
            InputError: no such axis or value.
        """
        for name, label in chosen.items():
            if label not in self.axes.get(name, ()):
                there = f"{name} has {list(self.axes[name])}" if name in self.axes else f"axes are {list(self.axes)}"
                raise InputError(f"nothing at {name}={label!r}: {there}")
        axes = {name: (chosen[name],) if name in chosen else labels for name, labels in self.axes.items()}
        header, known = replace(self.header, axes=axes), rows.labels_of(self.header)
        return SweepResult(self.ledger.part(header, [known.index(labels) for labels in rows.labels_of(header)]))

    @property
    def records(self) -> tuple[Record, ...]:
        """One a run and metric; the condition of the clean model's says ``intervention: none``."""
        return tuple(rows.records(self.ledger, range(self.header.n_runs)))

    def plot(self, metric: str | None = None, kind: Kind = "auto") -> "Figure":
        """The picture that fits the axes (those with several values).

        One axis of numbers: a line with its band; of names: points with intervals. Two: a line for each value of the
        shorter one, or a map of colours where there are more than six. Three: small multiples. The clean model is a
        dashed line, or the white of a map.

        Args:
            metric: may be left out where there is one.
            kind: ``"lines"``, ``"points"`` or ``"heatmap"``, to choose for oneself.

        Raises:
            InputError: more than three axes, or a kind that these axes cannot have.
        """
        about = self.about(metric)
        return picture(self.table_of(about.name), self.axes, about, kind)

    def save(self, folder: PathLike) -> Path:
        """Write ``sweep.json``, ``values.jsonl``, ``records.jsonl`` and ``table.csv`` into a folder.

        Raises:
            StoreError: the folder cannot be written.
        """
        path = Path(folder)
        self.ledger.save(path)
        (path / RECORDS).unlink(missing_ok=True)
        append(path / RECORDS, self.records)
        write_whole(path / "table.csv", self.table().to_csv(index=False).encode())
        return path

    @classmethod
    def load(cls, folder: PathLike) -> "SweepResult":
        """Read what `save` wrote, or the folder of a finished sweep.

        Raises:
            StoreError: there is none, it is damaged, or not finished.
        """
        return cls(Ledger.read(folder))

    def about(self, metric: str | None = None) -> About:
        """What is known of a metric.

        Raises:
            InputError: no such metric, or several and none named.
        """
        if metric is None and len(self.metrics) > 1:
            raise InputError(f"this sweep has several metrics: name one of {', '.join(self.metrics)}")
        for about in self.header.metrics:
            if metric in (None, about.name):
                return about
        raise InputError(f"no metric {metric!r} in this sweep: there is {', '.join(self.metrics)}")

    def table_of(self, metric: str) -> "pd.DataFrame":
        """The rows of one metric."""
        return self._table.query("metric == @metric").reset_index(drop=True)

    @cached_property
    def _table(self) -> "pd.DataFrame":
        import pandas as pd

        return pd.concat([rows.rows(self.ledger, about) for about in self.header.metrics], ignore_index=True)
