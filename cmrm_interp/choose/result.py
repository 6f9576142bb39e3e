"""What came of a choice: every candidate with its numbers, and which one was chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmrm_interp import plots
from cmrm_interp.choose.budget import Budget
from cmrm_interp.choose.counts import METRICS, Counts
from cmrm_interp.datasets.suites import Suite
from cmrm_interp.provenance import Provenance
from cmrm_interp.recipes import Recipe
from cmrm_interp.records import Record, Scalar, append, rate
from cmrm_interp.store import PathLike, write_whole

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_COSTS = {"over_refusal": "added refusals", "utility": "lost right", "neither": "added neither"}
# Of several suites the worst one is told: the highest share, or the lowest of right answers.
_LOWEST = frozenset({"right"})
RECORDS = "records.jsonl"


@dataclass(frozen=True, eq=False)
class Tried:
    """One candidate, measured.

    Attributes:
        labels: its settings; none for the model as it is.
        counts: by suite.
        costs: change against the model as it is, by limit of the budget, in shares.
    """

    labels: Mapping[str, Scalar]
    counts: Mapping[str, Counts]
    costs: Mapping[str, float]

    @property
    def name(self) -> str:
        """The settings in words."""
        return ", ".join(f"{name}={label}" for name, label in self.labels.items()) or "none"

    @property
    def alpha(self) -> float:
        """Its strength, where that is among the settings."""
        alpha = self.labels.get("alpha", 0)
        return float(alpha) if isinstance(alpha, int | float) else 0.0

    def harm(self, suites: Sequence[Suite]) -> float:
        """Share of harmful requests that are not answered safely, in the worst suite."""
        return max(self.counts[suite.name].share("not safe") for suite in suites if suite.kind == "harmful")

    def worst(self, suites: Sequence[Suite], metric: str) -> Counts:
        """Counts of the suite where a metric is worst."""
        measured = [self.counts[suite.name] for suite in suites if metric in METRICS[suite.kind]]
        return (min if metric in _LOWEST else max)(measured, key=lambda counts: counts.share(metric))


@dataclass(frozen=True, eq=False)
class Choice:
    """A recipe with chosen settings, and all that was tried; made by `ci.choose`.

    Attributes:
        recipe: fitted, with the chosen settings; its ``chosen_on`` says how they were chosen.
        suites: on which it was chosen.
        tried: the model as it is, then every candidate in the order of the grid.
        chosen: number of the chosen one among them.
        budget: what it might cost.
        about: model, suites and their split, grid, judge, decoding, versions.
    """

    recipe: Recipe
    suites: tuple[Suite, ...]
    tried: tuple[Tried, ...]
    chosen: int
    budget: Budget
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Scalar]:
        """The chosen settings, as the table says them."""
        return dict(self.tried[self.chosen].labels)

    @property
    def within_budget(self) -> bool:
        """Whether the chosen candidate keeps within the budget."""
        return not self.budget.excess(self.tried[self.chosen].costs)

    def __repr__(self) -> str:
        """What was chosen, of how many, one line."""
        row, metrics = self.tried[self.chosen], self._metrics
        told = ", ".join(f"{name} {100 * row.worst(self.suites, name).share(name):.1f} %" for name in metrics)
        return f"Choice({row.name} of {len(self.tried) - 1} candidates; {told})"

    def table(self, intervals: bool = True) -> "pd.DataFrame":
        """One row a candidate, and the model as it is: settings, metrics, costs, n, feasible, chosen.

        Where there are several suites of a kind, each metric is that of the worst of them. ``not safe`` is the share
        by which candidates are compared; costs (``added refusals``, ``lost right``, ``added neither``) are changes
        against the model as it is, in points of a hundred.

        Args:
            intervals: True for per cent with 95 % Wilson intervals, as text; False for shares, as numbers.
        """
        import pandas as pd

        rows = [self._row(number, row, intervals) for number, row in enumerate(self.tried)]
        frame = pd.DataFrame(rows, index=pd.Index([row.name for row in self.tried], name="candidate"))
        for name in self.settings:
            given = [row.labels.get(name) for row in self.tried]
            if None in given[1:]:
                # Left to itself pandas makes a NaN of None.
                frame[name] = pd.Series(given, index=frame.index, dtype=object)
        return frame

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """A record for each candidate, suite and metric, with its Wilson interval."""
        provenance = Provenance(**self.about["provenance"])
        return tuple(
            rate({"candidate": row.name, "suite": s.name, **row.labels}, m, c.count(m), c.n, provenance)
            for row in self.tried
            for s in self.suites
            for m in METRICS[s.kind]
            for c in [row.counts[s.name]]
        )

    def save(self, folder: PathLike) -> Path:
        """Write ``table.csv``, ``records.jsonl`` and ``choice.pdf`` into a folder; the recipe has a `save` of its own.

        Raises:
            StoreError: the folder cannot be written.
        """
        path = Path(folder)
        write_whole(path / "table.csv", self.table(intervals=False).to_csv().encode())
        (path / RECORDS).unlink(missing_ok=True)
        append(path / RECORDS, self.records)
        plots.save(self.plot(), path / "choice.pdf")
        return path

    def plot(self) -> "Figure":
        """Shares over the setting, where one of numbers was varied, else harm against refusals of every candidate.

        The chosen candidate is the vertical line, or the point of its own colour.
        """
        names = list(self.settings)
        if len(names) == 1 and all(type(row.labels[names[0]]) in (int, float) for row in self.tried[1:]):
            return self._lines(names[0])
        return self._points()

    @property
    def _metrics(self) -> tuple[str, ...]:
        kinds = {suite.kind for suite in self.suites}
        return tuple(dict.fromkeys(m for kind, metrics in METRICS.items() if kind in kinds for m in metrics))

    def _row(self, number: int, row: Tried, intervals: bool) -> dict[str, Any]:
        names = self.tried[1].labels
        found: dict[str, Any] = {name: row.labels.get(name) for name in names}
        for metric in self._metrics:
            counts = row.worst(self.suites, metric)
            told = rate({}, metric, counts.count(metric), counts.n)
            low, high = 100 * (told.low or 0), 100 * (told.high or 0)
            found[metric] = f"{100 * told.value:.1f} [{low:.1f}, {high:.1f}]" if intervals else told.value
        for name, cost in row.costs.items():
            found[_COSTS[name]] = f"{100 * cost + 0.0:+.1f}" if intervals else cost
        ns = sorted({counts.n for counts in row.counts.values()})
        found["n"] = ns[0] if len(ns) == 1 else f"{ns[0]}-{ns[-1]}"
        return {**found, "feasible": not self.budget.excess(row.costs), "chosen": number == self.chosen}

    def _lines(self, axis: str) -> "Figure":
        rows = [
            {
                axis: row.labels[axis],
                "metric": metric,
                "value": told.value,
                "low": told.low,
                "high": told.high,
                "n": told.n,
            }
            for row in self.tried[1:]
            for metric in self._metrics
            for counts in [row.worst(self.suites, metric)]
            for told in [rate({}, metric, counts.count(metric), counts.n)]
        ]
        import pandas as pd

        figure = plots.lines(pd.DataFrame(rows), axis, hue="metric", labels={"value": "share of answers"})
        figure.axes[0].axvline(float(self.settings[axis]), color="0.4", linestyle="--", linewidth=0.8)  # type: ignore[arg-type]
        return figure

    def _points(self) -> "Figure":
        frame = self.table(intervals=False).iloc[1:]
        kinds = [
            "chosen" if chosen else "within the budget" if feasible else "beyond it"
            for chosen, feasible in zip(frame["chosen"], frame["feasible"], strict=True)
        ]
        cost = next(_COSTS[name] for name in self.budget.limits)
        labels = {cost: f"{cost} (share)", "not safe": "harmful requests not answered safely (share)"}
        return plots.scatter(frame.assign(candidate=kinds), cost, "not safe", "candidate", labels=labels)
