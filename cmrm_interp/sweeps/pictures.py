"""Which picture fits the axes of a sweep."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from cmrm_interp.errors import InputError
from cmrm_interp.plots import grids
from cmrm_interp.records import Scalar
from cmrm_interp.sweeps.header import About

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Kind = Literal["auto", "lines", "points", "heatmap"]
# So many lines can be followed in one figure; so many small multiples fit a page.
LINES, PANELS = 6, 12


def picture(
    frame: "pd.DataFrame",
    axes: Mapping[str, tuple[Scalar, ...]],
    about: About,
    kind: Kind,
    baseline: str = "clean model",
) -> "Figure":
    """The figure of one metric.

    Args:
        frame: its rows of the table.
        axes: of the sweep.
        about: the metric.
        kind: of picture; ``"auto"`` chooses.
        baseline: what the run without interventions is called.

    Raises:
        InputError: axes of which there is no such picture.
    """
    if kind not in ("auto", "lines", "points", "heatmap"):
        raise InputError(f"no picture {kind!r}: use 'auto', 'lines', 'points' or 'heatmap'")
    several = {name: labels for name, labels in axes.items() if len(labels) > 1} or dict([next(iter(axes.items()))])
    if len(several) > 3:
        raise InputError(
            f"{len(several)} axes in one picture ({', '.join(several)}): choose first, with .at(axis=value)"
        )
    panel = (
        min(several, key=lambda name: (_is_numeric(several[name]), len(several[name]))) if len(several) == 3 else None
    )
    if panel is not None and len(several[panel]) > PANELS:
        raise InputError(
            f"{len(several[panel])} small multiples by {panel}: choose some first, with .at({panel}=value)"
        )
    rest = {name: labels for name, labels in several.items() if name != panel}
    view = _view(rest, kind)
    labels = {"value": f"{about.name} ({about.unit})" if about.unit else about.name}
    return view.draw(frame, grids.Look(labels, panel, baseline))


def _view(axes: Mapping[str, tuple[Scalar, ...]], kind: Kind) -> grids.View:
    # Numbers along the horizontal axis, and of two the longer one.
    x, *others = sorted(axes, key=lambda name: (not _is_numeric(axes[name]), -len(axes[name])))
    other = others[0] if others else None
    chosen = _fitting(axes[x], axes[other] if other else ()) if kind == "auto" else kind
    if chosen == "heatmap":
        if other is None:
            raise InputError(f"a heatmap needs two axes with several values, and there is {x!r} alone: use 'lines'")
        return grids.Map(x, other)
    if chosen == "lines" and not _is_numeric(axes[x]):
        raise InputError(f"lines need an axis of numbers, and {x!r} has names: use 'points'")
    return grids.Lines(x, other) if chosen == "lines" else grids.Points(x, other)


def _fitting(x: tuple[Scalar, ...], other: tuple[Scalar, ...]) -> Kind:
    if len(other) > LINES:
        return "heatmap"
    return "lines" if _is_numeric(x) and len(x) > 1 else "points"


def _is_numeric(labels: tuple[Scalar, ...]) -> bool:
    return all(isinstance(label, int | float) and not isinstance(label, bool) for label in labels)
