"""The style of every figure: sizes, colours, captions, files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

STYLE: dict[Any, Any] = {
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
        with matplotlib.rc_context(STYLE):
            figure.savefig(path, metadata=dates.get(path.suffix))
    except OSError as error:
        raise StoreError(f"{path} was not written ({error.strerror or error}): choose another place") from error
    return path


@contextmanager
def axes(width: float = COLUMN, height: float = 2.3) -> "Iterator[tuple[Figure, Axes]]":
    """A figure in our style. Closed at once: pyplot forgets it, so that a notebook does not show it twice."""
    import matplotlib
    import matplotlib.pyplot as plt

    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        try:
            yield figure, axes
        finally:
            plt.close(figure)


def look(kind: Any, place: int) -> dict[str, Any]:
    """Colour and label of one of the kinds in a figure.

    Args:
        kind: its name, or None where there is only one.
        place: its number.

    Raises:
        InputError: if it is one of more kinds than can be told apart.
    """
    if place >= len(PALETTE):
        raise InputError(f"more than {len(PALETTE)} kinds cannot be told apart in one figure: draw fewer")
    return {"color": PALETTE[place]} | ({} if kind is None else {"label": str(kind)})


def head(axes: "Axes", title: str, caption: str) -> None:
    """Title and caption over a figure, whichever there is."""
    text = "\n".join(line for line in (title, caption) if line)
    if text:
        axes.set_title(text, loc="left", linespacing=1.4)


def whole_ticks(axes: "Axes", values: Any) -> None:
    """No ticks between whole numbers: there is no layer 1.5."""
    from matplotlib.ticker import MaxNLocator

    if all(float(value).is_integer() for value in values):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def legend(figure: "Figure", handles: Sequence[Any], labels: Sequence[str], title: str = "") -> None:
    """A legend under a figure, in as many columns as its width holds.

    Args:
        figure: to be given it.
        handles: what was drawn.
        labels: their names.
        title: what the kinds are.
    """
    fitting = int(figure.get_figwidth() / (0.05 * max(map(len, labels)) + 0.45))
    columns = max(1, min(len(handles), 4, fitting))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=title or None)


def caption(frame: Any) -> str:
    """How many items stand behind each row of a table with intervals."""
    n = counts(frame)
    if "low" in frame and frame["low"].isna().all():
        return n
    return f"{n}; 95 % intervals" if n else "95 % intervals"


def counts(frame: Any) -> str:
    """How many items stand behind each row of a table; nothing where it does not say."""
    if "n" not in frame or frame["n"].isna().all():
        return ""
    low, high = int(frame["n"].min()), int(frame["n"].max())
    return f"n = {low} each" if low == high else f"n = {low} to {high}"


def table(data: "pd.DataFrame | Sequence[Record]", *columns: str) -> Any:
    """A table, or the table of records, which has some columns.

    Args:
        data: what a figure was given.
        *columns: what it needs.

    Raises:
        InputError: if it has no rows, or lacks a column.
    """
    import pandas as pd

    frame = data if isinstance(data, pd.DataFrame) else to_frame(data)
    if not len(frame):
        raise InputError("nothing to draw: the table has no rows")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"the table has no column {missing}: it has {list(frame)}")
    return frame
