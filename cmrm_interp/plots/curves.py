"""Lines over a number."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cmrm_interp.plots import style
from cmrm_interp.plots.style import MARKERS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from cmrm_interp.records import Record


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
    frame = style.table(data, x, y, *([hue] if hue else []))
    labels = labels or {}
    drawn = [end for end in band or () if end in frame]
    kinds = list(dict.fromkeys(frame[hue])) if hue else [None]
    with style.axes() as (figure, axes):
        for place, kind in enumerate(kinds):
            rows = (frame if hue is None else frame[frame[hue] == kind]).sort_values(x)
            axes.plot(rows[x], rows[y], **style.look(kind, place), marker=MARKERS[place % len(MARKERS)])
            if len(drawn) == 2:
                low, high = (rows[end].astype(float) for end in drawn)
                axes.fill_between(rows[x], low, high, color=style.look(kind, place)["color"], alpha=0.18, linewidth=0)
        axes.set(xlabel=labels.get(x, x), ylabel=labels.get(y, y))
        axes.grid(True)
        style.whole_ticks(axes, frame[x])
        style.head(axes, "", style.caption(frame) if len(drawn) == 2 else style.counts(frame))
        if hue:
            style.legend(figure, *axes.get_legend_handles_labels(), title=labels.get(hue, ""))
    return figure
