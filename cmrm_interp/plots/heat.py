"""A table as a map of colours."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from cmrm_interp.errors import InputError
from cmrm_interp.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cmrm_interp.records import Record


def heatmap(
    data: "pd.DataFrame | Sequence[Record]",
    x: str,
    y: str,
    value: str = "value",
    labels: Mapping[str, str] | None = None,
    title: str = "",
) -> "Figure":
    """A value over two axes as colours; values of both signs get a diverging scale with white at zero.

    Args:
        data: a table with one row a cell.
        x: column of the horizontal axis.
        y: column of the vertical axis; the smallest (or first) is drawn at the bottom, as layers are.
        value: column of what the colour says.
        labels: axis labels with their units, by column; a column's name stands for itself.
        title: one line over the figure.

    Raises:
        InputError: if the table is empty, lacks a column, has two rows for one cell, or a value is infinite.
    """
    frame, labels = style.table(data, x, y, value), labels or {}
    if frame.duplicated([x, y]).any():
        raise InputError(f"more than one row for one {x} and {y}: choose rows first, or draw small multiples")
    wide = frame.pivot(index=y, columns=x, values=value).reindex(index=order(frame[y]), columns=order(frame[x]))
    with style.axes(width=max(style.COLUMN, 1.4 + 0.16 * wide.shape[1]), height=max(2.0, 0.9 + 0.16 * len(wide))) as (
        figure,
        axes,
    ):
        image = colours(axes, wide.to_numpy(float), labels.get(x, x), labels.get(y, y))
        ticks(axes, list(wide.columns), list(wide.index))
        style.head(axes, title, style.counts(frame))
        bar(figure, image, labels.get(value, value))
    return figure


def bar(figure: "Figure", image: Any, label: str) -> None:
    """A colour bar beside a map; of a map of yes and no, with these two alone.

    Args:
        figure: that has the map.
        image: the map, as matplotlib drew it.
        label: what the colours say.
    """
    binary = set(np.unique(image.get_array().compressed())) <= {0, 1}
    drawn = figure.colorbar(image, ax=image.axes, label=label, ticks=[0, 1] if binary else None)
    drawn.outline.set_visible(False)


def colours(
    axes: "Axes", values: np.ndarray, xlabel: str, ylabel: str, limits: tuple[float, float] | None = None
) -> Any:
    """Draw a matrix into axes; cells without a value stay grey.

    Args:
        axes: where to draw.
        values: rows x columns; the first row is drawn at the bottom.
        xlabel: what columns are.
        ylabel: what rows are.
        limits: smallest and largest value of the scale, for several maps on one; None for those of the matrix.

    Raises:
        InputError: if no value is finite, or one is infinite.
    """
    if np.isinf(values).any() or np.isnan(values).all():
        raise InputError("a map needs finite numbers: some values are infinite, or there are none")
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    limit = max(abs(low), abs(high))
    both = low < 0 < high
    scale: dict[str, Any] = (
        {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if both else {"cmap": "cividis", "vmin": low, "vmax": high}
    )
    axes.set_facecolor("#bbbbbb")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return axes.imshow(np.ma.masked_invalid(values), aspect="auto", origin="lower", interpolation="nearest", **scale)


def ticks(axes: "Axes", columns: Sequence[Any], rows: Sequence[Any], most: int = 16) -> None:
    """Names of columns and rows at a map's axes, so many that they can be read."""
    box, size = axes.get_position(), axes.get_figure(root=True).get_size_inches()  # type: ignore[union-attr]
    turned = any(isinstance(name, str) for name in columns)
    longest = 2 if turned else max((len(_short(name)) for name in columns), default=1)
    beside = max((len(line) for name in rows for line in _lines(name, len(rows))), default=1)
    # Names at the left and a scale at the right take their share.
    width = max(0.3, 0.85 * box.width * size[0] - max(0.0, 0.05 * beside - 0.3))
    fitting = (width / (0.06 * longest + 0.06), box.height * size[1] / 0.12)
    for axis, names, room in zip((axes.xaxis, axes.yaxis), (columns, rows), fitting, strict=True):
        step = max(1, -(-len(names) // max(1, min(most, int(room)))))
        axis.set_ticks(range(0, len(names), step), ["\n".join(_lines(name, len(names))) for name in names[::step]])
    if turned:
        axes.tick_params(axis="x", rotation=60)


def order(column: Any) -> list[Any]:
    """Values of a column as an axis has them: numbers sorted, names as they come."""
    seen = list(dict.fromkeys(column))
    return seen if any(isinstance(name, str) for name in seen) else sorted(seen)


def _lines(name: Any, names: int) -> list[str]:
    return wrap(_short(name), 18, max_lines=2 if names < 8 else 1, placeholder="...")


def _short(name: Any) -> str:
    return f"{name:g}" if isinstance(name, float) else str(name)
