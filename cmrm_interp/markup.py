"""HTML for notebooks: small tables and thumbnails, escaped, in the colours of the page around them.

Nothing here sets a colour of text or background, so that what is shown reads in light and dark; there are no scripts
and no style sheets, which other front ends than Jupyter's (VS Code, GitHub, nbviewer) would drop.
"""

import base64
import html
import io
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import pandas as pd

ROWS, SIDE, WORDS = 8, 48, 240
"""Rows of a table, pixels of a thumbnail, characters of a text that are shown unless said otherwise."""

_LINE = "border-bottom:1px solid rgba(128,128,128,.35)"
_CELL = f"style='text-align:left;vertical-align:top;padding:.2em .8em .2em 0;{_LINE}'"
_TABLE = "style='border-collapse:collapse;margin:.2em 0'"


class Markup(str):
    """Text that is HTML already and is not escaped again."""


def escaped(value: object) -> Markup:
    """A value as HTML, whatever is in it; `Markup` stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def block(*parts: object) -> Markup:
    """Parts one under another: `Markup` as it is, anything else as a paragraph of text."""
    inside = (part if isinstance(part, Markup) else f"<div>{escaped(part)}</div>" for part in parts if part != "")
    return Markup(f"<div style='overflow-x:auto;line-height:1.4'>{''.join(inside)}</div>")


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """A table.

    Args:
        header: names of the columns.
        rows: cells; `Markup` as it is, anything else as text.
    """
    head = "".join(f"<th {_CELL}>{escaped(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td {_CELL}>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return Markup(f"<table {_TABLE}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def first_rows(summary: str, frame: "pd.DataFrame", index: bool = False) -> Markup:
    """What a result is in a line, and the first rows of its table.

    Args:
        summary: the line.
        frame: the whole table.
        index: whether its index is shown, too.
    """
    shown = frame.head(ROWS).to_html(index=index, float_format="{:.3f}".format, border=0)
    return block(summary, Markup(shown), more(len(frame) - ROWS, "rows", ".table()"))


def more(left: int, what: str, where: str = "") -> str:
    """How many are not shown, and where they are; nothing if all are."""
    return f"... {left:,} more {what}{f': {where}' if where else ''}" if left > 0 else ""


def short(text: str, width: int = WORDS) -> str:
    """The beginning of a text, cut between words."""
    return textwrap.shorten(text, width, placeholder=" ...") or text[:width]


def faint(value: object) -> Markup:
    """Something said in a low voice."""
    return Markup(f"<span style='opacity:.55'>{escaped(value)}</span>")


def folded(title: object, inside: Markup) -> Markup:
    """Something that is shown when its title is clicked."""
    return Markup(f"<details><summary>{escaped(title)}</summary>{inside}</details>")


def bold(value: object) -> Markup:
    """Something said loudly."""
    return Markup(f"<b>{escaped(value)}</b>")


def thumbnail(image: Image.Image, side: int = SIDE) -> Markup:
    """A picture of at most `side` pixels, inside of the page itself.

    Args:
        image: of any size and mode; small ones are shown larger, pixel by pixel.
        side: of the picture on the page.
    """
    small = image.convert("RGB")
    small.thumbnail((2 * side, 2 * side))  # twice as fine, for screens that are
    data = io.BytesIO()
    small.save(data, "PNG")
    shape = "width" if small.width >= small.height else "height"
    source = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    title = f"image, {image.width} x {image.height} pixels"
    rendering = "pixelated" if max(image.size) < side else "auto"
    style = f"{shape}:{side}px;max-width:none;image-rendering:{rendering};border:1px solid rgba(128,128,128,.35)"
    return Markup(f"<img alt='{title}' title='{title}' src='{source}' style='{style}'>")
