"""Figures from tables and records, in one style: colour-blind safe, one paper column wide, drawn as vectors.

Every function returns a matplotlib ``Figure`` that belongs to nobody else: a notebook shows it once, ``save`` writes
it. Colours are those of Okabe and Ito (2008), with a marker beside each, so that a grey copy can be read, too.
"""

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmrm_interp.errors import InputError, StoreError
from cmrm_interp.records import to_frame

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cmrm_interp.records import Record

COLUMN = 3.4  # inches: one column of a two-column paper; the whole page is 7
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
VERDICTS = {"unsafe": "#D55E00", "complied": "#D55E00", "refused": "#0072B2", "neither": "#999999"}
"""Verdicts have the same colour in every figure."""

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # text stays text in a PDF and an SVG
    "svg.fonttype": "none",
    "svg.hashsalt": "cmrm_interp",  # equal figures are equal files
}


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
    frame = _table(data, x, hue, "value", "low", "high", "n")
    if frame.duplicated([x, hue]).any():
        raise InputError(f"more than one row for one {x} and {hue}: choose rows first, or another hue")
    groups, kinds = list(dict.fromkeys(frame[x])), list(dict.fromkeys(frame[hue]))
    with _axes(width=min(max(COLUMN, 0.5 + 0.22 * len(groups) * (len(kinds) + 1)), 2 * COLUMN)) as (figure, axes):
        for place, kind in enumerate(kinds):
            rows = frame[frame[hue] == kind]
            offset = (place - (len(kinds) - 1) / 2) * 0.8 / len(kinds)
            _bars(axes, rows, [groups.index(group) + offset for group in rows[x]], 0.8 / len(kinds), kind, place)
        axes.set_xticks(range(len(groups)), [textwrap.fill(str(group), 12) for group in groups])
        axes.set(ylim=(0, 104), ylabel=ylabel, xlabel="")
        axes.yaxis.grid(True)
        _head(axes, title, _caption(frame))
        figure.legend(loc="outside lower center", ncols=min(len(kinds), 4))
    return figure


def lines(
    data: "pd.DataFrame | Sequence[Record]",
    x: str,
    y: str = "value",
    hue: str | None = None,
    band: tuple[str, str] | None = ("low", "high"),
    labels: Mapping[str, str] | None = None,
) -> "Figure":
    """Lines over a number, with a band where the table has one.

    Args:
        data: records, or a table.
        x: column on the horizontal axis, for example "layer" or "alpha".
        y: column on the vertical axis.
        hue: the column that tells lines apart; None draws one.
        band: columns of the lower and upper end of the interval; rows without one get none.
        labels: axis labels with their units, by column; a column's name stands for itself.

    Raises:
        InputError: if the table is empty or lacks a column.
    """
    frame = _table(data, x, y, *([hue] if hue else []))
    labels = labels or {}
    drawn = [end for end in band or () if end in frame]
    kinds = list(dict.fromkeys(frame[hue])) if hue else [None]
    with _axes() as (figure, axes):
        for place, kind in enumerate(kinds):
            rows = (frame if hue is None else frame[frame[hue] == kind]).sort_values(x)
            axes.plot(rows[x], rows[y], **_look(kind, place), marker=MARKERS[place % len(MARKERS)])
            if len(drawn) == 2:
                low, high = (rows[end].astype(float) for end in drawn)
                axes.fill_between(rows[x], low, high, color=_look(kind, place)["color"], alpha=0.18, linewidth=0)
        axes.set(xlabel=labels.get(x, x), ylabel=labels.get(y, y))
        axes.grid(True)
        _head(axes, "", _caption(frame) if len(drawn) == 2 else "")
        if hue:
            figure.legend(loc="outside lower center", ncols=min(len(kinds), 4), title=labels.get(hue))
    return figure


def scatter(
    points: np.ndarray, labels: Sequence[str], xlabel: str = "component 1", ylabel: str = "component 2", title: str = ""
) -> "Figure":
    """Points in the plane, one colour and marker a condition.

    Args:
        points: n x 2, for example projections on two principal components.
        labels: the condition of each point, n of them.
        xlabel: with its unit or share of variance.
        ylabel: the same.
        title: one line over the figure.

    Raises:
        InputError: if there are no points, or not one label for each.
    """
    points = np.asarray(points, float)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) != len(labels) or not len(points):
        raise InputError(f"points of shape {points.shape} and {len(labels)} labels: give n x 2 and one label for each")
    names = np.asarray(labels)
    kinds = list(dict.fromkeys(labels))
    with _axes(height=2.8) as (figure, axes):
        for place, kind in enumerate(kinds):
            chosen = points[names == kind]
            look = {**_look(kind, place), "label": f"{kind} (n = {len(chosen)})"}
            axes.scatter(*chosen.T, s=10, alpha=0.7, linewidths=0, marker=MARKERS[place % len(MARKERS)], **look)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        _head(axes, title, "")
        figure.legend(loc="outside lower center", ncols=min(len(kinds), 2))
    return figure


def heatmap(matrix: np.ndarray, xlabel: str, ylabel: str, cbar: str, title: str = "") -> "Figure":
    """A matrix as colours; one that has both signs gets a diverging scale with white at zero.

    Args:
        matrix: rows x columns; the first row is drawn at the bottom, as layers are.
        xlabel: what columns are.
        ylabel: what rows are.
        cbar: what values are, with their unit.
        title: one line over the figure.

    Raises:
        InputError: if it is not a matrix of finite numbers.
    """
    from matplotlib.ticker import MaxNLocator

    values = np.asarray(matrix, float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise InputError(f"a heatmap of shape {values.shape}: give a matrix of finite numbers")
    limit = np.abs(values).max()
    both = values.min() < 0 < values.max()
    scale: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if both else {"cmap": "cividis"}
    with _axes(height=2.8) as (figure, axes):
        image = axes.imshow(values, aspect="auto", origin="lower", interpolation="nearest", **scale)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=xlabel, ylabel=ylabel)
        _head(axes, title, "")
        figure.colorbar(image, ax=axes, label=cbar).outline.set_visible(False)
    return figure


def save(figure: "Figure", path: str | os.PathLike[str]) -> Path:
    """Writes a figure; the suffix (.pdf, .svg, .png) decides how. Equal figures give equal files.

    Raises:
        StoreError: if it cannot be written.
    """
    import matplotlib

    path = Path(path)
    dates = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(_STYLE):
            figure.savefig(path, metadata=dates.get(path.suffix))
    except OSError as error:
        raise StoreError(f"{path} was not written ({error.strerror or error}): choose another place") from error
    return path


@contextmanager
def _axes(width: float = COLUMN, height: float = 2.3) -> "Iterator[tuple[Figure, Axes]]":
    """A figure in our style. Closed at once: pyplot forgets it, so that a notebook does not show it twice."""
    import matplotlib
    import matplotlib.pyplot as plt

    with matplotlib.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        try:
            yield figure, axes
        finally:
            plt.close(figure)


def _bars(axes: "Axes", rows: Any, places: list[float], width: float, kind: Any, place: int) -> None:
    values = 100 * rows["value"].astype(float).to_numpy()
    ends = 100 * rows[["low", "high"]].astype(float).to_numpy().T
    # A bar without an interval gets no whisker: NaN draws nothing.
    whiskers = np.abs(ends - values)
    look = {"color": VERDICTS.get(str(kind)) or _look(kind, place)["color"], "label": str(kind)}
    axes.bar(places, values, width * 0.92, **look)
    axes.errorbar(places, values, whiskers, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)


def _look(kind: Any, place: int) -> dict[str, Any]:
    if place >= len(PALETTE):
        raise InputError(f"more than {len(PALETTE)} kinds cannot be told apart in one figure: draw fewer")
    return {"color": PALETTE[place]} | ({} if kind is None else {"label": str(kind)})


def _head(axes: "Axes", title: str, caption: str) -> None:
    text = "\n".join(line for line in (title, caption) if line)
    if text:
        axes.set_title(text, loc="left", linespacing=1.4)


def _caption(frame: Any) -> str:
    if "n" not in frame or frame["n"].isna().all():
        return "95 % intervals"
    low, high = int(frame["n"].min()), int(frame["n"].max())
    return f"n = {low} each; 95 % intervals" if low == high else f"n = {low} to {high}; 95 % intervals"


def _table(data: "pd.DataFrame | Sequence[Record]", *columns: str) -> Any:
    import pandas as pd

    frame = data if isinstance(data, pd.DataFrame) else to_frame(data)
    if not len(frame):
        raise InputError("nothing to draw: the table has no rows")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"the table has no column {missing}: it has {list(frame)}")
    return frame
