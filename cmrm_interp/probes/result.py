"""What `probe` found: predictions for held-out groups at each hook point, and what they are worth."""

import os
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cmrm_interp import plots
from cmrm_interp.axes import Float
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.hooks import expand, layer_of
from cmrm_interp.intervals import wilson
from cmrm_interp.probes.scores import HeldOut, Score, estimates, mean_of, scores_of
from cmrm_interp.probes.settings import ProbeSettings
from cmrm_interp.store import load, save

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

KIND = "probe result"
_HIGH = ("auc", "accuracy", "balanced accuracy", "seen accuracy", "control accuracy", "selectivity")
_UNITS = {"auc": "AUC", "log loss": "log loss (nats)", "brier": "Brier score", "ece": "calibration error (share)"}


@dataclass(frozen=True, eq=False)
class Cell:
    """One hook point (at one position).

    Attributes:
        hook: hook point.
        position: column of the captured positions, or None.
        held: predictions for groups that were held out.
        seen: whether each row is classified right on folds that share groups, or None.
        control: the share of random labellings of the groups for which it is, on folds that share groups, or None.
        p_value: of the permutation test of the AUC, or None.
        strengths: ``C`` chosen in each fold, None for kinds that have none.
    """

    hook: str
    position: int | None
    held: HeldOut
    seen: Float[np.ndarray, " n"] | None = None
    control: Float[np.ndarray, " n"] | None = None
    p_value: float | None = None
    strengths: tuple[float | None, ...] = ()

    def scores(self) -> dict[str, Score]:
        """All scores by name."""
        found = scores_of(self.held)
        if self.seen is None or self.control is None:
            return found
        pair = {"seen accuracy": self.seen, "control accuracy": self.control, "selectivity": self.seen - self.control}
        return found | {name: mean_of(values) for name, values in pair.items()}


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What can be read where.

    Attributes:
        cells: one a hook point, or a hook point and position.
        settings: what the probes were told.
        model: fingerprint of the model that the activations come from, or None.
    """

    cells: tuple[Cell, ...]
    settings: ProbeSettings
    model: str | None = None

    def __repr__(self) -> str:
        """Kind, size and the best hook point, one line."""
        rows = self.cells[0].held
        return (
            f"ProbeResult({self.settings.kind}; {len(self.cells)} probes, n = {len(rows.y)} in {rows.n_groups} groups;"
            f" best at {self.best()!r})"
        )

    def table(self) -> "pd.DataFrame":
        """One row a probe and metric, with 95 % bootstrap intervals over groups.

        Columns: hook, layer, position, metric, value, low, high, n, groups, p_value. Metrics: ``auc``, ``accuracy``,
        ``balanced accuracy``, ``log loss`` (nats), ``brier``, ``ece`` (10 bins; Guo et al. 2017, arXiv 1706.04599), all
        on held-out groups; ``seen accuracy``, ``control accuracy`` and ``selectivity`` (their difference) on folds that
        share groups. The p-value belongs to the AUC.
        """
        return self._table.copy()

    def best(self, metric: str = "auc") -> str:
        """The hook point where a metric is best. Its value there is flattered by the choice among hook points.

        Raises:
            InputError: there is no such metric.
        """
        rows = self._of(metric)
        place = rows["value"].idxmax() if metric in _HIGH else rows["value"].idxmin()
        return str(rows.loc[place, "hook"])

    def cell(self, hook: str, position: int | None = None) -> Cell:
        """The probe at a hook point (a name, or a pattern that means one).

        Raises:
            HookPointError: there is none, or several.
        """
        names = expand(hook, list(dict.fromkeys(cell.hook for cell in self.cells)), whole=False)
        found = [cell for cell in self.cells if cell.hook in names and position in (None, cell.position)]
        if len(found) != 1:
            shown = ", ".join(
                cell.hook if cell.position is None else f"{cell.hook} {cell.position}" for cell in found[:4]
            )
            raise HookPointError(f"{hook!r} at position {position} means {len(found)} probes: {shown}")
        return found[0]

    def plot(self, metric: str = "accuracy") -> "Figure":
        """A metric over layers with its interval; accuracy stands beside the control task's.

        Raises:
            InputError: there is no such metric, or the points have no layers.
        """
        wanted = [metric, "control accuracy"] if metric in ("accuracy", "seen accuracy") else [metric]
        self._of(metric)
        frame: Any = self._table[self._table["metric"].isin(wanted) & self._table["layer"].notna()].copy()
        if not len(frame):
            raise InputError(f"{self.cells[0].hook!r} has no layer to draw over: use .table()")
        frame["metric"] = _named_apart(frame)
        labels = {"value": _UNITS.get(metric, f"{metric} (share)"), "metric": f"{self.settings.kind} probe"}
        return plots.lines(frame, x="layer", hue="metric", labels=labels)

    def reliability(self, hook: str, bins: int = 10, position: int | None = None) -> "pd.DataFrame":
        """Observed share over predicted probability, a row a bin of equal width that is not empty.

        Args:
            hook: hook point.
            bins: number of bins from 0 to 1.
            position: where there are several.

        Returns:
            Columns predicted (mean probability), observed, low, high (Wilson, as if rows were independent), n.

        Raises:
            InputError: no bins.
        """
        import pandas as pd

        if bins < 1:
            raise InputError(f"bins={bins}: give a positive number")
        held = self.cell(hook, position).held
        places = np.minimum((held.probability * bins).astype(int), bins - 1)
        rows = []
        for place in np.unique(places):
            y = held.y[places == place]
            low, high = wilson(int(y.sum()), len(y))
            rows.append((held.probability[places == place].mean(), y.mean(), low, high, len(y)))
        return pd.DataFrame(rows, columns=pd.Index(["predicted", "observed", "low", "high", "n"]))

    def plot_calibration(self, hook: str, bins: int = 10, position: int | None = None) -> "Figure":
        """The reliability curve at a hook point."""
        return plots.reliability(self.reliability(hook, bins, position), self.cell(hook, position).hook)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the held-out predictions to one safetensors file.

        Raises:
            StoreError: the disk is full or the folder cannot be written.
        """
        tensors = {f"{i}:{name}": t for i, cell in enumerate(self.cells) for name, t in _tensors(cell).items()}
        cells = [{"hook": c.hook, "position": c.position, "p": c.p_value, "c": c.strengths} for c in self.cells]
        save(path, tensors, {"kind": KIND, "settings": asdict(self.settings), "model": self.model, "cells": cells})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ProbeResult":
        """Read what `save` wrote.

        Raises:
            StoreError: the file is missing, damaged or of another kind.
        """
        tensors, header = load(path, kind=KIND)
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        settings = header["settings"] | {"strengths": tuple(header["settings"]["strengths"])}
        cells = []
        for i, row in enumerate(header["cells"]):
            held = HeldOut(*(arrays[f"{i}:{field.name}"] for field in fields(HeldOut)))
            pair = (arrays.get(f"{i}:seen"), arrays.get(f"{i}:control"))
            cells.append(Cell(row["hook"], row["position"], held, *pair, row["p"], tuple(row["c"])))
        return cls(tuple(cells), ProbeSettings(**settings), header["model"])

    @cached_property
    def _table(self) -> "pd.DataFrame":
        import pandas as pd

        rows = []
        for cell in self.cells:
            found = estimates(cell.scores(), cell.held, self.settings.resamples, self.settings.seed)
            where = {"hook": cell.hook, "layer": layer_of(cell.hook), "position": cell.position}
            size = {"n": len(cell.held.y), "groups": cell.held.n_groups}
            for name, number in found.items():
                p = {"p_value": cell.p_value if name == "auc" and cell.p_value is not None else float("nan")}
                rows.append({**where, "metric": name, **asdict(number), **size, **p})
        return pd.DataFrame(rows)

    def _of(self, metric: str) -> Any:
        rows: Any = self._table[self._table["metric"] == metric]
        if not len(rows):
            raise InputError(f"no metric {metric!r}: there are {', '.join(self._table['metric'].unique())}")
        return rows


def _tensors(cell: Cell) -> dict[str, torch.Tensor]:
    arrays = {field.name: getattr(cell.held, field.name) for field in fields(HeldOut)}
    arrays |= {"seen": cell.seen, "control": cell.control}
    return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items() if a is not None}


def _named_apart(frame: Any) -> "pd.Series":
    """Metrics, with the kind of hook point and the position where the table has several."""
    points = frame["hook"].str.replace(r"\d+", "*", regex=True)
    names = frame["metric"]
    if points.nunique() > 1:
        names = names + ", " + points
    if frame["position"].nunique() > 1:
        names = names + ", position " + frame["position"].astype(str)
    return names
