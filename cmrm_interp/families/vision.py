"""The hook points of the vision side, in forward order."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from cmrm_interp.families.maps import FamilyMap, Gate, Point, QFormerMap, Side, VisionBlockMap, VisionMap
from cmrm_interp.families.views import AS_IS, Middle, Scaled, Shape, View, Whole

Modules = Mapping[str, nn.Module]


def vision_points(family: FamilyMap, hf_model: Any, modules: Modules) -> Iterator[Point]:
    """Hook points of tower, Q-Former and projector."""
    vision = family.vision
    if vision is None or not vision.projector:
        return
    config = hf_model.config
    tower = vision.shape.fitted(config)
    yield from _tower_points(vision, modules, tower)
    if vision.out is not None:
        yield _point("vision.hook_out", vision.out, "output", Whole(), tower)
    if vision.qformer is not None:
        yield from _qformer_points(vision.qformer, modules)
        yield _point("qformer.hook_out", vision.projector, "input", Whole(), AS_IS)
    if vision.out is None:
        yield _point(
            "vision.hook_out", vision.projector, "input", Whole(), (vision.out_shape or vision.shape).fitted(config)
        )
    yield _point(
        "projector.hook_out", vision.projector, "output", Whole(), (vision.projected or vision.shape).fitted(config)
    )


def _tower_points(vision: VisionMap, modules: Modules, shape: Shape) -> Iterator[Point]:
    layers = next((path for path in vision.layers if path in modules), vision.layers[0])
    stacks = [(layers, vision.block)]
    if vision.more_layers is not None:
        stacks.append((vision.more_layers, vision.more_block))
    number = 0
    for path, block in stacks:
        # A list that is missing is named by the error about its first block.
        for i in range(len(list(modules[path].children())) if path in modules else 1):
            yield from _block_points(f"vision.blocks.{number}", f"{path}.{i}", block, shape)
            number += 1


def _block_points(name: str, path: str, block: VisionBlockMap | None, shape: Shape) -> Iterator[Point]:
    pre = f"{name}.hook_resid_pre"
    yield _point(pre, path, "input", Whole(), shape)
    if block is not None:
        attn, mlp = (_gated(path, gate) for gate in (block.attn_gate, block.mlp_gate))
        yield _point(f"{name}.hook_attn_out", f"{path}.{block.attn}", "output", attn, shape)
        yield _point(f"{name}.hook_resid_mid", f"{path}.{block.attn}", "output", Middle(pre, attn), shape)
        yield _point(f"{name}.hook_mlp_out", f"{path}.{block.mlp}", "output", mlp, shape)
    yield _point(f"{name}.hook_resid_post", path, "output", Whole(), shape)


def _gated(path: str, gate: Gate | None) -> View:
    return Whole() if gate is None else Scaled(path, gate.name, gate.tanh)


def _qformer_points(qformer: QFormerMap, modules: Modules) -> Iterator[Point]:
    n = len(list(modules[qformer.layers].children())) if qformer.layers in modules else 1
    for i in range(n):
        name, path = f"qformer.blocks.{i}", f"{qformer.layers}.{i}"
        yield _point(f"{name}.hook_resid_pre", path, "input", Whole(), AS_IS)
        yield _point(f"{name}.hook_attn_out", f"{path}.{qformer.attn}", "output", Whole(), AS_IS)
        if f"{path}.{qformer.cross}" in modules:
            yield _point(f"{name}.hook_cross_attn_out", f"{path}.{qformer.cross}", "output", Whole(), AS_IS)
        yield _point(f"{name}.hook_mlp_out", f"{path}.{qformer.mlp}", "output", Whole(), AS_IS)
        yield _point(f"{name}.hook_resid_post", path, "output", Whole(), AS_IS)


def _point(name: str, module: str, side: Side, view: View, shape: Shape) -> Point:
    return Point(name, module, side, view, shape, is_vision=True)
