"""Reliability curves: of the cases that were called likely, how many were so?"""

from typing import TYPE_CHECKING

from cmrm_interp.plots.style import COLUMN, PALETTE, axes, counts, head, table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def reliability(data: "pd.DataFrame", title: str = "") -> "Figure":
    """Observed share over predicted probability, with 95 % intervals; a calibrated classifier lies on the diagonal.

    Args:
        data: a row a bin, with ``predicted`` (mean probability), ``observed`` (share), ``low``, ``high`` and ``n``.
        title: one line over the figure.

    Raises:
        InputError: if the table is empty or lacks a column.
    """
    frame = table(data, "predicted", "observed", "low", "high", "n")
    whiskers = [frame["observed"] - frame["low"], frame["high"] - frame["observed"]]
    with axes(COLUMN * 0.8, COLUMN * 0.8) as (figure, drawn):
        drawn.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
        look = {"color": PALETTE[0], "marker": "o", "capsize": 1.5, "elinewidth": 0.8}
        drawn.errorbar(frame["predicted"], frame["observed"], whiskers, **look)
        drawn.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="predicted probability", ylabel="observed share")
        drawn.set_aspect("equal")
        head(drawn, title, f"{counts(frame).replace(' each', '')} a bin; 95 % intervals")
    return figure
