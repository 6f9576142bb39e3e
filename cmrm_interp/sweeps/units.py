"""Which parts of a model an ablation sweep takes out, one after another, and where they are."""

from collections.abc import Mapping
from dataclasses import dataclass

from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.hooks import check_layers, layer_of, stack_of
from cmrm_interp.inputs import Inputs
from cmrm_interp.model import Model
from cmrm_interp.positions import Position


@dataclass(frozen=True)
class Unit:
    """A kind of part.

    Attributes:
        endings: its hook points, behind the number of the block; those that a model has are used.
        stack: blocks that it is in; empty for a part outside the blocks, whose endings are whole names.
        within: what it is one of at its hook point, where it is: ``"head"`` or ``"neurons"``.
        positions: tokens for which it is taken out, where nothing else is asked for.
    """

    endings: tuple[str, ...]
    stack: str = "blocks"
    within: str | None = None
    positions: Position = "all"


UNITS: Mapping[str, Unit] = {
    "layer": Unit(("hook_attn_out", "hook_mlp_out", "hook_per_layer_out")),
    "attn": Unit(("hook_attn_out",)),
    "mlp": Unit(("hook_mlp_out",)),
    "head": Unit(("attn.hook_z", "cross_attn.hook_z"), within="head"),
    "neuron": Unit(("mlp.hook_post",), within="neurons"),
    "image_tokens": Unit(("hook_resid_pre",), positions="image"),
    "vision_layer": Unit(("hook_attn_out", "hook_mlp_out"), "vision.blocks"),
    "projector": Unit(("projector.hook_out",), ""),
}


def unit_of(name: str) -> Unit:
    """A kind of part by its name.

    Raises:
        InputError: there is no such kind.
    """
    if name not in UNITS:
        raise InputError(f"no unit {name!r} to ablate: use {', '.join(map(repr, UNITS))} or 'direction'")
    return UNITS[name]


def places(model: Model, inputs: Inputs, unit: Unit, layers: object = None) -> dict[int, tuple[str, ...]]:
    """Hook points of a kind of part by layer (all at -1 for a part outside the blocks).

    Args:
        model: the model.
        inputs: what will be run; hook points that they do not reach are left out.
        unit: the kind.
        layers: numbers, negative ones counted from the last; None for all that have it.

    Raises:
        HookPointError: a layer that there is not or that has no such part, or a model without it.
    """
    reached = [n for n in model.hook_points if inputs.has_images or not model.network.needs_image(n)]
    found: dict[int, tuple[str, ...]] = {}
    for name in reached:
        stem = f"{unit.stack}.{layer_of(name)}." if unit.stack and stack_of(name) == unit.stack else ""
        if (bool(stem) == bool(unit.stack)) and name.removeprefix(stem) in unit.endings:
            layer = layer_of(name) if unit.stack else -1
            found[layer] = (*found.get(layer, ()), name)  # type: ignore[index,arg-type]
    if not found:
        missing = f"{unit.stack}.*.{unit.endings[0]}".lstrip(".*") if unit.stack else unit.endings[0]
        why = "" if inputs.has_images else " that prompts without an image reach"
        raise HookPointError(f"this model has no hook point {missing!r}{why}: print model.hook_points")
    if layers is None or not unit.stack:
        return found
    chosen = check_layers(layers, max(found) + 1) or ()  # type: ignore[arg-type]
    lacking = [layer for layer in chosen if layer not in found]
    if lacking:
        raise HookPointError(f"layer {lacking[0]} has no {unit.endings[0]!r}: layers {sorted(found)} have it")
    return {layer: found[layer] for layer in chosen}
