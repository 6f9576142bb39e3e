"""Pictures of a grid of conditions, each with a mean, its interval and a baseline: lines, points, maps; in panels."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from cmrm_interp.plots import style
from cmrm_interp.plots.heat import ticks
from cmrm_interp.plots.style import MARKERS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 3  # panels side by side
_WIDE = 18  # letters of a name in one line


@dataclass(frozen=True)
class Look:
    """What every view of a table shares.

    Attributes:
        labels: axis labels with their units, by column; a column's name stands for itself.
        panel: column of which every value has a panel of its own; None for one.
        baseline: what column ``clean`` is called.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    panel: str | None = None
    baseline: str = "clean model"

    def name(self, column: str) -> str:
        """What a column is called."""
        return self.labels.get(column, column)


class View(ABC):
    """A kind of picture of a table with columns ``value``, ``low``, ``high``, ``n`` and ``clean``."""

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """Columns that it needs beside."""

    @abstractmethod
    def panel(self, axes: "Axes", frame: Any, everything: Any, look: Look) -> Any:
        """Draw some rows into axes; `everything` are those of all panels, which share colours and scales."""

    def caption(self, frame: Any) -> str:
        """What stands over the figure."""
        return style.caption(frame)

    def room(self, frame: Any) -> float:
        """Inches that names below an axis need beyond the usual."""
        return 0.0

    @abstractmethod
    def finish(self, figure: "Figure", axes: Any, drawn: Any, look: Look) -> None:
        """Legend or colour bar."""

    def draw(self, data: "pd.DataFrame", look: Look | None = None) -> "Figure":
        """The figure.

        Args:
            data: one row a condition.
            look: labels and panels.

        Raises:
            InputError: the table is empty or lacks a column, or has more kinds than can be told apart.
        """
        look = look or Look()
        panels = [] if look.panel is None else [look.panel]
        frame = style.table(data, "value", "low", "high", "n", "clean", *self.columns, *panels)
        frame = frame.assign(**{name: _told(frame[name]) for name in (*self.columns, *panels)})
        parts = list(dict.fromkeys(frame[look.panel])) if look.panel else [None]
        with _several(len(parts), self.room(frame)) as (figure, every):
            for place, (axes, part) in enumerate(zip(every, parts, strict=False)):
                some = frame if look.panel is None else frame[frame[look.panel] == part]
                drawn = self.panel(axes, some, frame, look)
                title = "" if look.panel is None else f"{look.name(look.panel)}: {_short(part)}"
                style.head(axes, title, self.caption(frame) if place == 0 else "")
            self.finish(figure, every, drawn, look)
        return figure


@dataclass(frozen=True)
class Series(View):
    """Means along one axis, in a colour for each kind; the baseline is dashed.

    Attributes:
        x: column of the axis.
        hue: column of the kinds; None where there is one.
    """

    x: str
    hue: str | None = None

    @property
    def columns(self) -> list[str]:
        """Columns of the axes."""
        return [self.x, *([self.hue] if self.hue else [])]

    def finish(self, figure: "Figure", axes: Any, drawn: Any, look: Look) -> None:
        """The legend."""
        _legend(figure, axes[0], look, self.hue)


@dataclass(frozen=True)
class Lines(Series):
    """Means over a number, with bands."""

    def panel(self, axes: "Axes", frame: Any, everything: Any, look: Look) -> None:
        """Lines of one panel."""
        for place, kind, rows in _kinds(frame, everything, self.hue):
            rows, how = rows.sort_values(self.x), style.look(kind, place)
            axes.plot(rows[self.x], rows["value"], **how, marker=MARKERS[place])
            low, high = (rows[end].astype(float) for end in ("low", "high"))
            axes.fill_between(rows[self.x], low, high, color=how["color"], alpha=0.18, linewidth=0)
            _own_baseline(axes, rows[self.x].to_numpy(float), rows["clean"].to_numpy(float), everything, how["color"])
        _baseline(axes, everything, look.baseline)
        axes.set(xlabel=look.name(self.x), ylabel=look.name("value"))
        axes.grid(True)
        style.whole_ticks(axes, everything[self.x])


@dataclass(frozen=True)
class Points(Series):
    """Means of named conditions, with whiskers."""

    def room(self, frame: Any) -> float:
        """For long names."""
        return max(0.0, 0.06 * _longest(frame[self.x]) - 0.4)

    def panel(self, axes: "Axes", frame: Any, everything: Any, look: Look) -> None:
        """Points of one panel."""
        names = list(dict.fromkeys(everything[self.x]))
        n_kinds = everything[self.hue].nunique() if self.hue else 1
        for place, kind, rows in _kinds(frame, everything, self.hue):
            at = np.array([names.index(name) for name in rows[self.x]]) + (place - (n_kinds - 1) / 2) * 0.6 / n_kinds
            values = rows["value"].to_numpy(float)
            ends = np.abs(rows[["low", "high"]].to_numpy(float).T - values)
            how = style.look(kind, place)
            axes.errorbar(at, values, ends, fmt=MARKERS[place], capsize=1.5, elinewidth=0.8, **how)
            _own_baseline(axes, at, rows["clean"].to_numpy(float), everything, how["color"])
        _baseline(axes, everything, look.baseline)
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if _longest(names) > 6 else {}
        axes.set_xticks(range(len(names)), [fill(_short(name), _WIDE) for name in names], **turned)
        axes.set(xlabel=look.name(self.x), ylabel=look.name("value"), xlim=(-0.5, len(names) - 0.5))
        axes.yaxis.grid(True)


@dataclass(frozen=True)
class Map(View):
    """Means over two axes as colours, white where a condition equals the baseline.

    Attributes:
        x, y: columns of the axes; the first (or smallest) value of `y` is at the bottom, as layers are.
    """

    x: str
    y: str

    @property
    def columns(self) -> list[str]:
        """Columns of the axes."""
        return [self.x, self.y]

    def caption(self, frame: Any) -> str:
        """Colours have no intervals."""
        return style.counts(frame)

    def panel(self, axes: "Axes", frame: Any, everything: Any, look: Look) -> Any:
        """One map."""
        shown, middle = _shown(frame), _middle(everything)
        limit = float(np.abs(_shown(everything) - middle).max()) or 1.0
        wide = frame.assign(shown=shown).pivot(index=self.y, columns=self.x, values="shown")
        rows, columns = (_order(everything[name]) for name in (self.y, self.x))
        wide = wide.reindex(index=rows, columns=columns)
        scale = {"cmap": "RdBu_r", "vmin": middle - limit, "vmax": middle + limit}
        axes.set_facecolor("#bbbbbb")
        axes.set(xlabel=look.name(self.x), ylabel=look.name(self.y))
        how: dict[str, Any] = {"aspect": "auto", "origin": "lower", "interpolation": "nearest", **scale}
        image = axes.imshow(np.ma.masked_invalid(wide.to_numpy(float)), **how)
        ticks(axes, columns, rows)
        values = [*_shown(everything), middle]
        return image, "" if _one_baseline(everything) else "change of ", (np.nanmin(values), np.nanmax(values))

    def finish(self, figure: "Figure", axes: Any, drawn: Any, look: Look) -> None:
        """The colour bar."""
        image, what, ends = drawn
        label = f"{what}{look.name('value')}\nwhite: {look.baseline}"
        bar = figure.colorbar(image, ax=list(axes), label=label)
        bar.outline.set_visible(False)
        if ends[0] < ends[1]:  # colours of values that there are
            bar.ax.set_ylim(*ends)


def _kinds(frame: Any, everything: Any, hue: str | None) -> Iterator[tuple[int, Any, Any]]:
    if hue is None:
        yield 0, None, frame
        return
    for place, kind in enumerate(dict.fromkeys(everything[hue])):
        yield place, _short(kind), frame[frame[hue] == kind]


def _one_baseline(frame: Any) -> bool:
    return frame["clean"].nunique() == 1


def _shown(frame: Any) -> Any:
    # Where baselines differ one colour cannot mean them all, and changes are shown.
    return frame["value"] if _one_baseline(frame) else frame["value"] - frame["clean"]


def _middle(frame: Any) -> float:
    return float(frame["clean"].iloc[0]) if _one_baseline(frame) else 0.0


_DASHED: dict[str, Any] = {"linestyle": "--", "linewidth": 0.8}


def _own_baseline(axes: "Axes", at: np.ndarray, clean: np.ndarray, everything: Any, color: str) -> None:
    if not _one_baseline(everything):
        axes.plot(at, clean, color=color, **_DASHED)


def _baseline(axes: "Axes", everything: Any, name: str) -> None:
    if _one_baseline(everything):
        axes.axhline(float(everything["clean"].iloc[0]), color="black", label=name, **_DASHED)


def _legend(figure: "Figure", axes: "Axes", look: Look, hue: str | None) -> None:
    from matplotlib.lines import Line2D

    handles, labels = axes.get_legend_handles_labels()
    if look.baseline not in labels:
        # Every kind has a baseline in its own colour.
        handles, labels = [*handles, Line2D([], [], color="black", **_DASHED)], [*labels, look.baseline]
    style.legend(figure, handles, labels, look.name(hue) if hue else "")


def _told(column: Any) -> Any:
    # A table takes None for a value that is missing.
    return column.astype(object).map(_short) if column.isna().any() else column


def _longest(names: Any) -> int:
    return max(len(line) for name in names for line in fill(_short(name), _WIDE).splitlines())


def _order(column: Any) -> list[Any]:
    seen = list(dict.fromkeys(column))
    return seen if any(isinstance(name, str) for name in seen) else sorted(seen)


def _short(name: Any) -> str:
    return f"{name:g}" if isinstance(name, float) else str(name)


@contextmanager
def _several(n: int, room: float = 0.0) -> "Iterator[tuple[Figure, Any]]":
    """A figure with so many axes, in our style; pyplot forgets it at once."""
    import matplotlib
    import matplotlib.pyplot as plt

    if n == 1:
        with style.axes(height=2.3 + room) as (figure, axes):
            yield figure, [axes]
        return
    across = min(n, ACROSS)
    down = -(-n // across)
    size = (2.1 * across + 0.4, (1.9 + room) * down + 0.4)
    with matplotlib.rc_context(style.STYLE):
        figure, every = plt.subplots(down, across, figsize=size, layout="constrained", sharex=True, sharey=True)
        try:
            flat = every.flatten().tolist()
            for axes in flat[n:]:
                axes.set_visible(False)
            for axes in flat[max(0, n - across) : n]:  # nothing stands below these
                axes.tick_params(labelbottom=True)
            yield figure, flat[:n]
        finally:
            plt.close(figure)
