"""What `probe_transfer` found: a score for each pair of a condition to train on and one to test on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cmrm_interp import plots
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.hooks import expand, layer_of
from cmrm_interp.probes.scores import Estimate, HeldOut, estimates, resampled, scores_of
from cmrm_interp.probes.settings import ProbeSettings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class TransferResult:
    """Predictions for held-out groups, for every pair of a condition to train on and one to test on.

    Attributes:
        cells: by hook point, condition trained on, condition tested on.
        settings: what the probes were told.
    """

    cells: Mapping[tuple[str, str, str], HeldOut]
    settings: ProbeSettings

    def __repr__(self) -> str:
        """Conditions and number of hook points, one line."""
        hooks, conditions = len(self._hooks), list(dict.fromkeys(train for _, train, _ in self.cells))
        return f"TransferResult({self.settings.kind}; {' x '.join(conditions)}; {hooks} hook points)"

    def table(self) -> "pd.DataFrame":
        """One row a hook point, pair of conditions and metric, with 95 % bootstrap intervals over groups."""
        return self._table.copy()

    def matrix(self, hook: str, metric: str = "accuracy") -> "pd.DataFrame":
        """A metric at one hook point: rows are trained on, columns tested on.

        Raises:
            HookPointError: there is no such hook point.
            InputError: there is no such metric.
        """
        rows = self._of(metric)
        rows = rows[rows["hook"] == self._hook(hook)]
        order = list(dict.fromkeys(rows["train"]))
        return rows.pivot(index="train", columns="test", values="value").loc[order, order]

    def gap(self, train: str, test: str, metric: str = "accuracy") -> "pd.DataFrame":
        """What a probe loses by the change of condition: its score where it was trained less that where it is tested.

        Both are over the same held-out groups, so the interval is that of the paired difference. Where both scores
        are perfect (or both zero) that has no width; there the ends are put together from the intervals of the two
        (Newcombe 1998, method 10, without the correlation), which is wider than it need be.

        Args:
            train: condition trained on.
            test: condition tested on.
            metric: a name from the table.

        Returns:
            A row a hook point: hook, layer, value, low, high, n (rows tested), groups.

        Raises:
            InputError: there is no such condition or metric.
        """
        import pandas as pd

        self._of(metric)
        if not {(self._hooks[0], train, train), (self._hooks[0], train, test)} <= self.cells.keys():
            raise InputError(f"no conditions {train!r} and {test!r}: there are {sorted({t for _, t, _ in self.cells})}")
        rows = []
        for hook in self._hooks:
            own, other = self.cells[hook, train, train], self.cells[hook, train, test]
            found = _difference(own, other, metric, self.settings)
            size = {"n": len(other.y), "groups": other.n_groups}
            rows.append({"hook": hook, "layer": layer_of(hook), **asdict(found), **size})
        return pd.DataFrame(rows)

    def plot(self, hook: str, metric: str = "accuracy") -> "Figure":
        """Heat map of `matrix`."""
        self.matrix(hook, metric)
        rows = self._of(metric)
        labels = {"test": "tested on", "train": "trained on", "value": metric}
        return plots.heatmap(rows[rows["hook"] == self._hook(hook)], "test", "train", labels=labels)

    def plot_layers(self, train: str, metric: str = "accuracy") -> "Figure":
        """A metric over layers for a probe trained on one condition, one line a condition tested on.

        Raises:
            InputError: there is no such condition or metric.
        """
        rows = self._of(metric)
        rows = rows[(rows["train"] == train) & rows["layer"].notna()]
        if not len(rows):
            raise InputError(f"nothing was trained on {train!r} at a layer: use .table()")
        labels = {"value": metric, "test": f"trained on {train}, tested on"}
        return plots.lines(rows, x="layer", hue="test", labels=labels)

    @cached_property
    def _table(self) -> "pd.DataFrame":
        import pandas as pd

        rows = []
        for (hook, train, test), held in self.cells.items():
            where = {"hook": hook, "layer": layer_of(hook), "train": train, "test": test}
            size = {"n": len(held.y), "groups": held.n_groups}
            found = estimates(scores_of(held), held, self.settings.resamples, self.settings.seed)
            rows += [{**where, "metric": name, **asdict(number), **size} for name, number in found.items()]
        return pd.DataFrame(rows)

    @property
    def _hooks(self) -> list[str]:
        return list(dict.fromkeys(hook for hook, _, _ in self.cells))

    def _hook(self, hook: str) -> str:
        names = expand(hook, self._hooks, whole=False)
        if len(names) != 1:
            raise HookPointError(f"{hook!r} means {len(names)} hook points here: {', '.join(names[:4])}")
        return names[0]

    def _of(self, metric: str) -> Any:
        rows: Any = self._table[self._table["metric"] == metric]
        if not len(rows):
            raise InputError(f"no metric {metric!r}: there are {', '.join(self._table['metric'].unique())}")
        return rows


def _difference(own: HeldOut, other: HeldOut, metric: str, how: ProbeSettings) -> Estimate:
    """A score where the probe was trained less that where it is tested, on the same resamples of the groups."""
    n = len(own.y)
    groups = np.concatenate([own.groups, other.groups])
    mine, theirs = scores_of(own)[metric], scores_of(other)[metric]

    def loss(weights: np.ndarray) -> np.ndarray:
        return mine(weights[:, :n]) - theirs(weights[:, n:])

    low, high = np.nanquantile(resampled([loss], groups, how.resamples, how.seed)[0], (0.025, 0.975))
    found = Estimate(float(loss(np.ones((1, len(groups))))[0]), float(low), float(high))
    if low < high or own is other:
        return found
    both = [_estimate(held, metric, how) for held in (own, other)]
    return _of_two(*both) if {one.value for one in both} <= {0.0, 1.0} else found


def _estimate(held: HeldOut, metric: str, how: ProbeSettings) -> Estimate:
    return estimates({metric: scores_of(held)[metric]}, held, how.resamples, how.seed)[metric]


def _of_two(a: Estimate, b: Estimate) -> Estimate:
    """The difference of two scores, its interval made of theirs."""
    below, above = np.hypot(a.value - a.low, b.high - b.value), np.hypot(a.high - a.value, b.value - b.low)
    return Estimate(a.value - b.value, a.value - b.value - float(below), a.value - b.value + float(above))
