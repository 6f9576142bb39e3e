"""Grid: what is patched, cell by cell: a unit of the model at each layer, in each stretch or at each token."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.hooks import check_layers, layer_of
from cmrm_interp.interventions import Intervention
from cmrm_interp.interventions.units import Units
from cmrm_interp.patching.alignment import Alignment
from cmrm_interp.patching.matching import Unequal
from cmrm_interp.patching.patches import PatchFrom, Source, capture_source
from cmrm_interp.patching.spans import Places, check, from_the_end, places, spans
from cmrm_interp.positions import Position

UNITS: Mapping[str, tuple[str, ...]] = {
    "resid_pre": ("hook_resid_pre",),
    "resid_mid": ("hook_resid_mid",),
    "resid_post": ("hook_resid_post",),
    "attn_out": ("hook_attn_out",),
    "mlp_out": ("hook_mlp_out",),
    "head": ("attn.hook_z", "cross_attn.hook_z"),
    "z": ("attn.hook_z", "cross_attn.hook_z"),
    "q": ("attn.hook_q", "cross_attn.hook_q"),
    "k": ("attn.hook_k",),
    "v": ("attn.hook_v",),
}
Over = Literal["span", "position", "layer"]


@dataclass(frozen=True)
class Cell:
    """One patch.

    Attributes:
        where: its coordinates by axis.
        hook: hook point.
        places: tokens.
        head: the only head that is patched, or None for the whole activation.
    """

    where: Mapping[str, Hashable]
    hook: str
    places: Places
    head: int | None = None

    def patch(self, source: Source) -> Intervention:
        """The patch, with activations of the run that it is from."""
        whole = PatchFrom(source, self.places, (self.hook,))
        return whole if self.head is None else Units(whole, self.head)


@dataclass(frozen=True)
class Grid:
    """What is patched.

    Attributes:
        unit: one of `UNITS`: the residual stream before, inside or after a block, what attention or MLP add to it,
            queries, keys, values, what heads read (``"z"``) together, or ``"head"`` for one head after another.
        over: ``"span"`` (template, image, user's text, last token), ``"position"`` (token by token, counted from
            the end), or ``"layer"`` (all chosen tokens at once). None: ``"layer"`` for heads, else ``"span"``.
        layers: one or several; None for all that have the unit.
        positions: which spans (names, or positions by a name of one's own), which tokens (-1 is the last), or, for
            ``"layer"``, one position; None for all that have a counterpart in the other run.
        unequal: as in `align`.
    """

    unit: str = "resid_pre"
    over: Over | None = None
    layers: int | Iterable[int] | None = None
    positions: Any = None
    unequal: Unequal = "refuse"

    def __post_init__(self) -> None:
        """Refuse what there is not.

        Raises:
            InputError: another unit, or another kind of grid.
        """
        if self.unit not in UNITS:
            raise InputError(f"no unit {self.unit!r}: use {', '.join(UNITS)}")
        if self.over not in ("span", "position", "layer", None):
            raise InputError(f"over={self.over!r}: use 'span', 'position' or 'layer'")
        if self.over is None:
            object.__setattr__(self, "over", "layer" if self.unit == "head" else "span")

    def cells(self, model: Any, alignment: Alignment) -> list[Cell]:
        """All cells, by layer, then head, then tokens.

        Args:
            model: whose.
            alignment: from the run that is patched from to the one that is patched.

        Raises:
            HookPointError: a layer that there is not, or that has no such unit in these runs.
            MismatchError: tokens without a counterpart.
        """
        hooks, where = self.hooks(model, alignment), self.where(alignment)
        heads = range(model.n_heads) if self.unit == "head" else [None]
        return [
            Cell(_coordinates(layer, head, self.over, name), hook, place, head)
            for (layer, hook), head, (name, place) in product(hooks.items(), heads, where.items())
        ]

    def hooks(self, model: Any, alignment: Alignment) -> dict[int, str]:
        """Hook point of the unit at each layer."""
        sees = alignment.a.has_images and alignment.b.has_images
        names = [n for n in model.hook_points if sees or not model.network.needs_image(n)]
        found = {layer_of(n): n for n in names if _inside(n) in UNITS[self.unit]}
        chosen = check_layers(self.layers, model.n_layers)
        missing = [layer for layer in chosen or () if layer not in found]
        if missing or not found:
            have = f"layers {', '.join(map(str, found))}" if found else "no layer"
            raise HookPointError(f"{self.unit!r} is at {have} of this model in these runs: not at {missing or 'any'}")
        return {layer: name for layer, name in found.items() if layer is not None and (not chosen or layer in chosen)}

    def where(self, alignment: Alignment) -> dict[Any, Places]:
        """Tokens of each cell."""
        if self.over == "span":
            return dict(spans(alignment, _several(self.positions)))
        if self.over == "position":
            return dict(from_the_end(alignment, _several(self.positions)))
        position: Position = "prompt" if self.positions is None else self.positions
        found = places(alignment, {"all": position})
        check(str(position), found["all"])
        return dict(found)


def source_of(model: Any, alignment: Alignment, cells: Sequence[Cell]) -> Source:
    """Activations of the run that is patched from, for all cells."""
    each = {id(cell.places): cell.places for cell in cells}
    return capture_source(model, alignment.a, list(dict.fromkeys(cell.hook for cell in cells)), each.values())


def axes_of(cells: Sequence[Cell]) -> dict[str, list[Any]]:
    """Values of each axis, in the order in which the cells have them."""
    return {axis: list(dict.fromkeys(cell.where[axis] for cell in cells)) for axis in cells[0].where}


def _inside(name: str) -> str:
    stack, _, rest = name.partition(".")
    return rest.partition(".")[2] if stack == "blocks" else ""


def _coordinates(layer: int, head: int | None, over: str | None, name: Any) -> dict[str, Any]:
    axes = {"layer": layer, "head": head, str(over): layer if over == "layer" else name}
    return {axis: value for axis, value in axes.items() if value is not None}


def _several(positions: Any) -> Any:
    return [positions] if isinstance(positions, str | int) else positions
