"""Points in the plane."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cmrm_interp.errors import InputError
from cmrm_interp.plots import style
from cmrm_interp.plots.style import MARKERS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from cmrm_interp.records import Record


def scatter(
    data: "pd.DataFrame | Sequence[Record]",
    x: str,
    y: str,
    hue: str | None = None,
    labels: Mapping[str, str] | None = None,
    title: str = "",
) -> "Figure":
    """Points in the plane, one colour and marker a condition; how many each has stands in the legend.

    Args:
        data: a table with one row a point, for example projections on two principal components.
        x: column of the horizontal coordinate.
        y: column of the vertical one.
        hue: the column of the condition; None for one colour.
        labels: axis labels with their units, by column; a column's name stands for itself.
        title: one line over the figure.

    Raises:
        InputError: if the table is empty, lacks a column, or a coordinate is not finite.
    """
    frame, labels = style.table(data, x, y, *([hue] if hue else [])), labels or {}
    if not np.isfinite(frame[[x, y]].to_numpy(float)).all():
        raise InputError(f"a point has no finite {x} and {y}: leave such rows out")
    kinds = list(dict.fromkeys(frame[hue])) if hue else [None]
    with style.axes(height=2.8) as (figure, axes):
        for place, kind in enumerate(kinds):
            chosen = frame if hue is None else frame[frame[hue] == kind]
            look: dict[str, Any] = style.look(kind, place) | ({"label": f"{kind} (n = {len(chosen)})"} if hue else {})
            axes.scatter(chosen[x], chosen[y], s=10, alpha=0.7, linewidths=0, marker=MARKERS[place], **look)
        axes.set(xlabel=labels.get(x, x), ylabel=labels.get(y, y))
        style.head(axes, title, "" if hue else f"n = {len(frame)}")
        if hue:
            style.legend(figure, *axes.get_legend_handles_labels())
    return figure
