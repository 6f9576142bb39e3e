"""Two shares against each other, with intervals both ways, and the front of points that no other one beats."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cmrm_interp.plots import style
from cmrm_interp.plots.labels import place_names
from cmrm_interp.plots.style import COLUMN, PALETTE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More names than these in a panel stand in a column beside it.
_CROWD = 14
# The front stands out; what is beaten steps back.
_LOOKS = {True: (PALETTE[0], "o"), False: ("#777777", "s")}


def pareto(data: "pd.DataFrame", x: str, y: str, label: str, panel: str = "", title: str = "") -> "Figure":
    """Points with intervals on both axes, in per cent; those in ``front`` are joined by steps, the others grey squares.

    Args:
        data: a row a point: ``x`` and ``y`` (shares), each with ``x low`` and ``x high``; and ``front``, whether it is
            on it. What the axes are called stands in ``data.attrs`` under the columns' names, if anywhere.
        x: column of the horizontal axis; more is better.
        y: column of the vertical one; less is better.
        label: column of the points' names.
        panel: column that has a panel of its own for each value; "" for one panel.
        title: one line over the figure.

    Raises:
        InputError: if the table is empty or lacks a column.
    """
    ends = [f"{axis}{end}" for axis in (x, y) for end in ("", " low", " high")]
    frame = style.table(data, *ends, "front", label, *([panel] if panel else []))
    groups = [(str(name), rows) for name, rows in frame.groupby(panel, sort=False)] if panel else [("", frame)]
    named = [str(data.attrs.get(axis, axis)) for axis in (x, y)]
    most = max(len(rows) for _, rows in groups)
    with _panels(len(groups), most) as (figure, every):
        for axes, (name, rows) in zip(every, groups, strict=True):
            _panel(axes, rows, x, y)
            axes.set_title(name)
        figure.supxlabel(textwrap.fill(f"{named[0]} (%), more is better", 60), fontsize=8)
        figure.supylabel(textwrap.fill(f"{named[1]} (%), less is better", 36), fontsize=8)
        caption = "95 % intervals; blue: no other is better on both axes"
        figure.suptitle("\n".join(line for line in (title, caption) if line), fontsize=8, x=0.02, ha="left")
        figure.draw_without_rendering()
        write = _names if most <= _CROWD else _names_beside
        for axes, (_, rows) in zip(every, groups, strict=True):
            write(axes, 100 * rows[ends].to_numpy(float), rows[label].astype(str).tolist())
    return figure


@contextmanager
def _panels(n: int, names: int) -> "Iterator[tuple[Figure, list[Axes]]]":
    import matplotlib
    import matplotlib.pyplot as plt

    across = 1 if names > _CROWD else min(n, 2)
    down = -(-n // across)
    # Names in a column need their height.
    high = max(3 if n == 1 else 2.6, 0.1 * names if names > _CROWD else 0)
    size = (1.5 * COLUMN if n == 1 and names <= _CROWD else 2 * COLUMN, 0.4 + high * down)
    with matplotlib.rc_context(style.STYLE):
        figure, every = plt.subplots(down, across, figsize=size, layout="constrained", sharex=True, sharey=True)
        flat = list(np.ravel(every))
        for empty in flat[n:]:
            empty.set_visible(False)
        for axes in flat[max(0, n - across) : n]:  # nothing stands below these
            axes.tick_params(labelbottom=True)
        try:
            yield figure, flat[:n]
        finally:
            plt.close(figure)


def _panel(axes: "Axes", rows: Any, x: str, y: str) -> None:
    front = rows[rows["front"]].sort_values([x, y])
    axes.step(100 * front[x], 100 * front[y], where="pre", color=_LOOKS[True][0], linewidth=1, alpha=0.6)
    for on, (color, marker) in _LOOKS.items():
        chosen = rows[rows["front"] == on]
        if len(chosen):
            across, up = (100 * _reach(chosen, axis) for axis in (x, y))
            look: dict[str, Any] = {"fmt": marker, "color": color, "elinewidth": 0.6, "markersize": 3.5}
            axes.errorbar(100 * chosen[x], 100 * chosen[y], up, across, **look)
    axes.grid(True)
    axes.margins(0.1)


def _reach(rows: Any, axis: str) -> np.ndarray:
    """How far intervals reach below and above their points."""
    ends = rows[[f"{axis} low", f"{axis} high"]].to_numpy(float).T
    return np.abs(ends - rows[axis].to_numpy(float))


def _names(axes: "Axes", ends: np.ndarray, names: list[str]) -> None:
    x, left, right, y, low, high = ends.T
    bars = np.concatenate([np.stack([left, right, y, y], 1), np.stack([x, x, low, high], 1)])
    place_names(axes, np.stack([x, y], 1), names, bars)


def _names_beside(axes: "Axes", ends: np.ndarray, names: list[str]) -> None:
    """Names in a column at the right, in the order of their points from below, a thin line from each to its point."""
    x, y = ends[:, 0], ends[:, 3]
    # From the name's left edge.
    line = {"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.4, "shrinkA": 1, "shrinkB": 2, "relpos": (0, 0.5)}
    for place, row in zip(np.linspace(0, 1, len(names)), np.lexsort((x, y)), strict=True):
        axes.annotate(
            names[row],
            (x[row], y[row]),
            (1.06, place),
            textcoords="axes fraction",
            fontsize=6,
            va="center",
            arrowprops=line,
        )
