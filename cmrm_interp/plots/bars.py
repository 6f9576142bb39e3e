"""Grouped bars of shares."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cmrm_interp.errors import InputError
from cmrm_interp.plots import style
from cmrm_interp.plots.style import COLUMN, VERDICTS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cmrm_interp.records import Record


def rates(
    data: "pd.DataFrame | Sequence[Record]", x: str, hue: str = "metric", title: str = "", ylabel: str = "answers (%)"
) -> "Figure":
    """Grouped bars of shares with their 95 % intervals; n stands under the title.

    Args:
        data: records, or their table; ``value``, ``low`` and ``high`` are shares in 0 .. 1.
        x: the column that groups bars, for example "defence".
        hue: the column that tells bars of a group apart.
        title: one line over the figure.
        ylabel: what is counted, with its unit.

    Raises:
        InputError: if the table is empty, lacks a column, or has two rows for one bar.
    """
    frame = style.table(data, x, hue, "value", "low", "high", "n")
    if frame.duplicated([x, hue]).any():
        raise InputError(f"more than one row for one {x} and {hue}: choose rows first, or another hue")
    groups, kinds = list(dict.fromkeys(frame[x])), list(dict.fromkeys(frame[hue]))
    names = [textwrap.fill(str(group), 12) for group in groups]
    letters = max(len(line) for name in names for line in name.splitlines())
    each = max(0.22 * (len(kinds) + 1), 0.06 * letters + 0.1)
    with style.axes(width=min(max(COLUMN, 0.5 + each * len(groups)), 2 * COLUMN)) as (figure, axes):
        for place, kind in enumerate(kinds):
            rows = frame[frame[hue] == kind]
            offset = (place - (len(kinds) - 1) / 2) * 0.8 / len(kinds)
            _bars(axes, rows, [groups.index(group) + offset for group in rows[x]], 0.8 / len(kinds), kind, place)
        axes.set_xticks(range(len(groups)), names)
        axes.set(ylim=(0, 104), ylabel=ylabel, xlabel="")
        axes.yaxis.grid(True)
        style.head(axes, title, style.caption(frame))
        style.legend(figure, *axes.get_legend_handles_labels())
    return figure


def _bars(axes: "Axes", rows: Any, places: list[float], width: float, kind: Any, place: int) -> None:
    values = 100 * rows["value"].astype(float).to_numpy()
    ends = 100 * rows[["low", "high"]].astype(float).to_numpy().T
    # A bar without an interval gets no whisker: NaN draws nothing.
    whiskers = np.abs(ends - values)
    look = {"color": VERDICTS.get(str(kind)) or style.look(kind, place)["color"], "label": str(kind)}
    axes.bar(places, values, width * 0.92, **look)
    axes.errorbar(places, values, whiskers, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
