"""Pictures side by side, each under its name."""

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cmrm_interp.errors import InputError
from cmrm_interp.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

SIDE = 0.9


def gallery(pictures: "Mapping[str, Image]", columns: int = 6, title: str = "") -> "Figure":
    """Pictures side by side, each under its name; pixels are shown as they are.

    Args:
        pictures: by name, of any sizes.
        columns: pictures a row.
        title: one line over the figure.

    Raises:
        InputError: no pictures, or no columns.
    """
    if not pictures or columns < 1:
        raise InputError(f"{len(pictures)} pictures in {columns} columns: give at least one of each")
    across = min(columns, len(pictures))
    down = -(-len(pictures) // across)
    with style.axes(width=SIDE * across, height=(SIDE + 0.25) * down) as (figure, whole):
        whole.set_axis_off()
        for place, (name, picture) in enumerate(pictures.items()):
            axes = figure.add_subplot(down, across, place + 1)
            axes.imshow(picture, interpolation="nearest")
            axes.set_title(textwrap.fill(name, 14), fontsize="small")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color="#bbbbbb", linewidth=0.5)
        if title:
            figure.suptitle(title)
    return figure
