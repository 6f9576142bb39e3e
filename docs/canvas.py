"""A sheet measured in inches for the drawings of the pages: boxes, arrows, cells, in ink for light or dark pages."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

BLUE, RED, GREEN, ORANGE, PINK = "#3b8fd0", "#e0662f", "#22a884", "#d99a1c", "#c979ab"
HATCH = "////"  # padding
INK = {"light": ("#24292f", "#69727c"), "dark": ("#e4e7eb", "#9aa3ad")}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "svg.fonttype": "path",  # the same on every machine, whatever fonts it has
    "svg.hashsalt": "cmrm_interp",
    "hatch.linewidth": 0.5,
    "mathtext.fontset": "dejavusans",
}


@dataclass
class Canvas:
    """A transparent sheet.

    Attributes:
        width, height: in inches, which are the coordinates too; y goes up.
        theme: ``"light"`` or ``"dark"``, the page that it will lie on.
        texts: everything written, for the test that nothing overlaps.
    """

    width: float
    height: float
    theme: str = "light"
    texts: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        """An empty sheet."""
        self.ink, self.soft = INK[self.theme]
        self.figure = Figure(figsize=(self.width, self.height))
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, self.width), ylim=(0, self.height))
        self.axes.axis("off")

    def text(self, x: float, y: float, words: str, colour: str = "", **how: Any) -> None:
        """Words around a point; ``mono=True`` for names in code."""
        family = "DejaVu Sans Mono" if how.pop("mono", False) else "DejaVu Sans"
        how = {"ha": "center", "va": "center", "linespacing": 1.35, "size": 9} | how
        self.texts.append(self.axes.text(x, y, words, color=colour or self.ink, family=family, **how))

    def box(
        self, x: float, y: float, extent: tuple[float, float], words: str = "", colour: str = "", **how: Any
    ) -> None:
        """A rounded box around a point, with words in it."""
        (width, height), edge = extent, colour or self.soft
        corner, rounded = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.07"
        style = {"fc": edge + "33" if colour else "none", "ec": edge, "lw": 1.1, "ls": how.pop("ls", "-")}
        self.axes.add_patch(FancyBboxPatch(corner, width, height, rounded, zorder=2, **style))
        if words:
            self.text(x, y, words, zorder=3, **how)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str = "", **how: Any) -> None:
        """A straight arrow, or one bent by ``connectionstyle=``."""
        how = {"lw": 1.2, "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0, "arrowstyle": "-|>", "zorder": 2} | how
        self.axes.add_patch(FancyArrowPatch(start, end, color=colour or self.soft, **how))

    def line(self, *points: tuple[float, float], colour: str = "", **how: Any) -> None:
        """A line through points."""
        self.axes.plot(*zip(*points, strict=True), color=colour or self.soft, **{"lw": 1.2, "zorder": 1} | how)

    def cell(self, x: float, y: float, extent: tuple[float, float], colour: str = "", **how: Any) -> None:
        """A small rectangle whose lower left corner is given; hatched where ``hatch=`` says so."""
        fill = colour + "b3" if colour else "none"
        how = {"fc": fill, "ec": self.soft, "lw": 0.6, "zorder": 2} | how
        self.axes.add_patch(Rectangle((x, y), *extent, **how))

    def overlaps(self) -> list[tuple[str, str]]:
        """Pairs of texts that lie on one another, and texts that leave the sheet (paired with nothing)."""
        boxes = [(text.get_text(), text.get_window_extent(self.renderer)) for text in self.texts]
        sheet = self.figure.bbox
        outside = [(a, "") for a, box in boxes if not (sheet.x0 <= box.x0 and box.x1 <= sheet.x1)]
        outside += [(a, "") for a, box in boxes if not (sheet.y0 <= box.y0 and box.y1 <= sheet.y1)]
        pairs = [(one, other) for n, one in enumerate(boxes) for other in boxes[:n] if one[1].overlaps(other[1])]
        return outside + [(one[0], other[0]) for one, other in pairs]

    def save(self, path: Path) -> None:
        """Write the sheet; equal sheets are equal files."""
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(path, transparent=True, metadata={"Date": None} if path.suffix == ".svg" else {})
