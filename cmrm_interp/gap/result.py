"""What a measured gap is: a table, records and figures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.gap.metrics import METRICS
from cmrm_interp.gap.pca import Projection
from cmrm_interp.hooks import expand, layer_of
from cmrm_interp.plots import lines, scatter
from cmrm_interp.provenance import Provenance
from cmrm_interp.records import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Measure:
    """One metric of two conditions at one hook point.

    Attributes:
        layer: of the hook point; None outside the blocks.
        hook: where.
        a: the condition that is compared; shifts go to it.
        b: with which; shifts come from it.
        metric: what was measured.
        value: how much.
        low: lower end of the 95 % bootstrap interval over prompts.
        high: upper end.
        n: prompts.
        p: of the permutation test; None where there is none.
        p_holm: the same, corrected over the hook points (Holm 1979).
        null: what `p` is against.
    """

    layer: int | None
    hook: str
    a: str
    b: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    p: float | None = None
    p_holm: float | None = None
    null: str | None = None


@dataclass(frozen=True)
class GapResult:
    """Distances, consistency and overlaps of the shift, and principal components, by hook point.

    Attributes:
        measures: one a hook point, pair of conditions and metric.
        projections: hook point to principal components of all conditions together.
        provenance: what they were made with.
    """

    measures: tuple[Measure, ...]
    projections: Mapping[str, Projection]
    provenance: Provenance = field(default_factory=Provenance)

    def __repr__(self) -> str:
        """Counts, one line."""
        pairs = dict.fromkeys(f"{m.a} - {m.b}" for m in self.measures)
        return f"GapResult({', '.join(pairs)}; {len(self.projections)} hook points, {self.measures[0].n} prompts)"

    @property
    def metrics(self) -> list[str]:
        """Names of what was measured."""
        return list(dict.fromkeys(m.metric for m in self.measures))

    def table(self, metric: str | None = None) -> "pd.DataFrame":
        """One row a measure: layer, hook, a, b, metric, value, low, high, n, p, p_holm, null.

        Args:
            metric: only this one.

        Raises:
            InputError: it was not measured.
        """
        import pandas as pd

        if metric is not None and metric not in self.metrics:
            raise InputError(f"{metric!r} was not measured: there are {', '.join(self.metrics)}")
        rows = [asdict(m) for m in self.measures if metric in (None, m.metric)]
        return pd.DataFrame(rows).astype({"p": float, "p_holm": float})

    @property
    def records(self) -> tuple[Record, ...]:
        """The measures as records; p values stand among the conditions."""
        kept = ("layer", "hook", "a", "b", "p", "p_holm", "null")
        return tuple(
            Record({k: getattr(m, k) for k in kept}, m.metric, m.value, m.n, m.low, m.high, self.provenance)
            for m in self.measures
        )

    def plot(self, metric: str) -> "Figure":
        """One metric over layers, a line for each pair of conditions, with its interval.

        Raises:
            InputError: it was not measured, or a layer has several hook points.
        """
        frame = self.table(metric).dropna(subset="layer")
        if not len(frame) or frame.duplicated(["layer", "a", "b"]).any():
            raise InputError("lines over layers need one hook point a layer: choose rows of .table() for plots.lines")
        references = set(frame["b"])
        frame["conditions"] = frame["a"] if len(references) == 1 else frame["a"] + " - " + frame["b"]
        label = METRICS[metric].label if metric in METRICS else metric
        legend = f"compared with {references.pop()}" if len(references) == 1 else "conditions"
        return lines(frame, x="layer", hue="conditions", labels={"value": label, "conditions": legend})

    def pca(self) -> "pd.DataFrame":
        """Coordinates of every state: layer, hook, condition, row, pc1, pc2, ..."""
        import pandas as pd

        return pd.concat([self._coordinates(hook) for hook in self.projections], ignore_index=True)

    def explained(self) -> "pd.DataFrame":
        """Share of the variance of all conditions together on each principal axis: layer, hook, pc1, pc2, ..."""
        import pandas as pd

        rows = [
            {"layer": layer_of(hook), "hook": hook}
            | {f"pc{i}": float(share) for i, share in enumerate(found.explained, 1)}
            for hook, found in self.projections.items()
        ]
        return pd.DataFrame(rows)

    def plot_pca(self, layer: int | str = -1) -> "Figure":
        """All conditions on the first two principal axes of one hook point.

        Args:
            layer: a layer (negative ones count from the last) or a hook point.

        Raises:
            HookPointError: none or several hook points are meant.
        """
        hook = self._hook(layer)
        explained = self.projections[hook].explained
        labels = {f"pc{i}": f"component {i} ({100 * explained[i - 1]:.0f} % of variance)" for i in (1, 2)}
        return scatter(self._coordinates(hook), "pc1", "pc2", "condition", labels, hook)

    def _hook(self, layer: int | str) -> str:
        names = list(self.projections)
        if isinstance(layer, str):
            found = expand(layer, names, whole=False)
        else:
            layers = [number for name in names if (number := layer_of(name)) is not None]
            wanted = max(layers, default=0) + 1 + layer if layer < 0 else layer
            found = [name for name in names if layer_of(name) == wanted]
        if len(found) != 1:
            raise HookPointError(f"layer {layer!r} means {len(found)} hook points: name one of {', '.join(names[:8])}")
        return found[0]

    def _coordinates(self, hook: str) -> "pd.DataFrame":
        import pandas as pd

        parts = []
        for condition, rows in self.projections[hook].coordinates.items():
            part = pd.DataFrame(rows, columns=[f"pc{i}" for i in range(1, rows.shape[1] + 1)])
            part.insert(0, "row", range(len(rows)))
            part.insert(0, "condition", condition)
            parts.append(part)
        joined = pd.concat(parts, ignore_index=True)
        joined.insert(0, "hook", hook)
        joined.insert(0, "layer", layer_of(hook))
        return joined
