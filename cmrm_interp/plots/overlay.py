"""Values and words of patches over the image, and words in the cells of a map."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cmrm_interp.errors import InputError
from cmrm_interp.plots import heat, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from cmrm_interp.records import Record

LONGEST = 12
"""Characters of a word that are written into a cell; longer ones are cut, with an ellipsis."""


def over_image(
    data: "pd.DataFrame | Sequence[Record]",
    image: "Image",
    value: str = "value",
    text: str | None = None,
    labels: Mapping[str, str] | None = None,
    title: str = "",
) -> "Figure":
    """An image with its patches' outlines, and beside it the same image under a value (and a word) of each patch.

    Args:
        data: a table with one row a patch: ``row`` and ``column`` (from 0, the upper left patch first; the largest
            ones tell the size of the grid), and what is to be shown. Patches without a row, or whose value is NaN,
            stay uncoloured.
        image: the picture that the patches divide evenly.
        value: column of what the colour says.
        text: column of the words that are written into the patches; None for none.
        labels: the colour bar's label with its unit, by column; a column's name stands for itself.
        title: one line over the figure.

    Raises:
        InputError: if the table is empty, lacks a column, has two rows for one patch, places outside a grid, or no
            finite value.
    """
    frame = style.table(data, "row", "column", value, *([text] if text else []))
    values, words = _grid(frame, value), _grid(frame, text) if text else None
    side = max(style.COLUMN / 2, 0.4 * values.shape[1] if words is not None else 0.0)
    height = side * image.height / image.width
    with style.axes(width=2 * side + 0.6, height=min(max(height, 1.2), 4 * side) + 0.3) as (figure, whole):
        whole.remove()
        plain, covered = figure.subplots(1, 2)
        for axes in (plain, covered):
            _picture(axes, image, values.shape)
        drawn = _cover(covered, values.astype(float))
        if words is not None:
            _write(covered, words, drawn, size=_font(side / values.shape[1], words))
        style.head(plain, title, style.counts(frame))
        heat.bar(figure, drawn, (labels or {}).get(value, value))
    return figure


def word_grid(
    data: "pd.DataFrame | Sequence[Record]",
    x: str,
    y: str,
    value: str = "value",
    text: str = "text",
    labels: Mapping[str, str] | None = None,
) -> "Figure":
    """A value over two axes as colours, with a word in each cell.

    Args:
        data: a table with one row a cell.
        x: column of the horizontal axis.
        y: column of the vertical axis; the smallest (or first) is drawn at the bottom, as layers are.
        value: column of what the colour says.
        text: column of the words.
        labels: axis labels with their units, by column; a column's name stands for itself.

    Raises:
        InputError: if the table is empty, lacks a column, has two rows for one cell, or a value is infinite.
    """
    frame, labels = style.table(data, x, y, value, text), labels or {}
    if frame.duplicated([x, y]).any():
        raise InputError(f"more than one row for one {x} and {y}: choose rows first")
    columns, rows = heat.order(frame[x]), heat.order(frame[y])
    values, words = (
        frame.pivot(index=y, columns=x, values=name).reindex(index=rows, columns=columns).to_numpy()
        for name in (value, text)
    )
    width = 0.55
    with style.axes(width=max(style.COLUMN, 1.4 + width * len(columns)), height=max(2.0, 0.9 + 0.2 * len(rows))) as (
        figure,
        axes,
    ):
        image = heat.colours(axes, values.astype(float), labels.get(x, x), labels.get(y, y))
        heat.ticks(axes, columns, rows, most=max(len(columns), len(rows)))
        _write(axes, words, image, size=_font(width, words))
        heat.bar(figure, image, labels.get(value, value))
    return figure


def _grid(frame: Any, column: str) -> np.ndarray:
    places = frame[["row", "column"]].to_numpy()
    if (places != places.astype(int)).any() or (places < 0).any():
        raise InputError("row and column of a patch are whole numbers from 0: some are not")
    if frame.duplicated(["row", "column"]).any():
        raise InputError("more than one row of the table for one patch: choose a layer and an image first")
    rows, columns = places.astype(int).T
    kept = np.full((rows.max() + 1, columns.max() + 1), np.nan, dtype=object)
    kept[rows, columns] = frame[column].to_numpy()
    return kept


def _picture(axes: "Axes", image: "Image", shape: tuple[int, ...]) -> None:
    n_rows, n_columns = shape
    # Cells are unit squares around whole numbers, as those of a matrix are.
    extent = (-0.5, n_columns - 0.5, n_rows - 0.5, -0.5)
    axes.imshow(np.asarray(image.convert("RGB")), extent=extent, interpolation="nearest")
    axes.set_aspect(image.height / n_rows / (image.width / n_columns))
    axes.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
    axes.vlines(np.arange(n_columns - 1) + 0.5, *extent[2:], colors="white", linewidths=0.4)
    axes.hlines(np.arange(n_rows - 1) + 0.5, *extent[:2], colors="white", linewidths=0.4)


def _cover(axes: "Axes", values: np.ndarray) -> Any:
    if np.isinf(values).any() or np.isnan(values).all():
        raise InputError("a map needs finite numbers: some values are infinite, or there are none")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    limit = max(-low, high)
    scale: dict[str, Any] = {"cmap": "cividis", "vmin": low, "vmax": high}
    if low < 0 < high:
        scale = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    aspect = axes.get_aspect()
    drawn = axes.imshow(np.ma.masked_invalid(values), origin="upper", interpolation="nearest", alpha=0.75, **scale)
    axes.set_aspect(aspect)
    return drawn


def _write(axes: "Axes", words: np.ndarray, drawn: Any, size: float) -> None:
    from matplotlib.patheffects import withStroke

    for (row, column), word in np.ndenumerate(words):
        if isinstance(word, str) and word:
            light = _is_light(drawn, drawn.get_array()[row, column])
            around = withStroke(linewidth=1.2, foreground="white" if light else "black")
            colour = "black" if light else "white"
            axes.text(
                column, row, _short(word), size=size, color=colour, ha="center", va="center", path_effects=[around]
            )


def _is_light(drawn: Any, value: Any) -> bool:
    if np.ma.is_masked(value):
        return True
    red, green, blue, _ = drawn.cmap(drawn.norm(value))
    return bool(0.299 * red + 0.587 * green + 0.114 * blue > 0.5)


def _font(inches: float, words: np.ndarray) -> float:
    """Points at which the longest word fits a cell, but never so small or large that nobody reads on."""
    longest = max((len(_short(word)) for word in words.flat if isinstance(word, str)), default=1)
    return min(8.0, max(3.5, 72 * inches / (0.62 * max(longest, 1))))


def _short(word: str) -> str:
    # A dollar sign would begin a formula.
    word = word.replace("$", r"\$")
    return word if len(word) <= LONGEST else f"{word[: LONGEST - 1]}…"
