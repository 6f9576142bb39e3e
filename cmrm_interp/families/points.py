"""The hook points of a model, in forward order, from its family's map."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from cmrm_interp import hooks
from cmrm_interp.errors import ModelError
from cmrm_interp.families.blocks import Block, block_points, skipped_points
from cmrm_interp.families.maps import BlockMap, FamilyMap, Point
from cmrm_interp.families.norms import norm_points
from cmrm_interp.families.views import Whole
from cmrm_interp.families.vision import vision_points


def hook_points(family: FamilyMap, hf_model: Any) -> tuple[Point, ...]:
    """Hook points of a model in the order in which a forward pass with an image meets them.

    Args:
        family: the map.
        hf_model: the Hugging Face model.

    Raises:
        ModelError: a module that the map names is missing; the message lists all of them.
    """
    modules = dict(hf_model.named_modules())
    ends = (tuple(_embed_points(family)), tuple(vision_points(family, hf_model, modules)))
    found = (
        *(point for part in (ends[::-1] if family.sees_first else ends) for point in part),
        *(p for block in blocks_of(family, hf_model, modules) for p in block_points(block)),
        *_final_points(family, modules),
    )
    missing = sorted({point.module for point in found} - modules.keys())
    if missing:
        raise ModelError(
            f"the map of family {family.name!r} does not fit {type(hf_model).__name__}:"
            f" no module {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}"
        )
    return found


def points_without_image(family: FamilyMap, blocks: Sequence[Block], points: Mapping[str, Point]) -> tuple[Point, ...]:
    """Hook points that a forward pass without any image meets.

    The stream of a block that is left out (Mllama's cross-attention) is seen at the block before it.
    """
    left_out = {block.layer for block in blocks if block.kind.cross}
    kept = [p for p in points.values() if not p.is_vision and layer_of(p) not in left_out]
    if not left_out:
        return tuple(kept)
    before, found = family.at(family.embed), [p for p in kept if layer_of(p) is None]
    for block in blocks:
        if block.layer in left_out:
            found += skipped_points(block, before)
        else:
            found += [p for p in kept if layer_of(p) == block.layer]
            before = block.path
    at = {point.name: number for number, point in enumerate(found)}
    return tuple(sorted(found, key=lambda p: (_part(p), at[p.name])))


def layer_of(point: Point) -> int | None:
    """Number of the decoder block that a point is in."""
    return hooks.layer_of(point.name) if hooks.stack_of(point.name) == "blocks" else None


def _part(point: Point) -> int:
    return 1 if layer_of(point) is not None else 2 if point.name.startswith(("ln_final", "unembed")) else 0


def blocks_of(family: FamilyMap, hf_model: Any, modules: Mapping[str, nn.Module]) -> list[Block]:
    """The decoder's blocks, each with the kind of block that it is.

    Raises:
        ModelError: a block in which no kind finds all of its modules.
    """
    text = hf_model.config.get_text_config()
    heads = text.num_attention_heads
    stack = family.at(family.layers)
    found = []
    for layer in range(text.num_hidden_layers):
        path = f"{stack}.{layer}"
        kind = _kind(family, path, modules, hf_model)
        found.append(
            Block(layer, path, kind, (heads, _kv_heads(text, modules, path, kind)), modules, family.gain_offset)
        )
    return found


def _kv_heads(text: Any, modules: Mapping[str, nn.Module], path: str, kind: BlockMap) -> int:
    head = getattr(modules[f"{path}.{kind.attn}"], "head_dim", None)
    keys = modules.get(f"{path}.{kind.k}")
    if isinstance(keys, nn.Linear) and isinstance(head, int):
        # Layers of one model may differ in it (Gemma 4).
        return keys.out_features // head
    return getattr(text, "num_key_value_heads", None) or text.num_attention_heads


def _kind(family: FamilyMap, path: str, modules: Mapping[str, nn.Module], hf_model: Any) -> BlockMap:
    lacking: Sequence[str] = ()
    for kind in family.blocks:
        lacking = [f"{path}.{part}" for part in kind.modules if f"{path}.{part}" not in modules]
        if not lacking:
            return kind
    raise ModelError(
        f"the map of family {family.name!r} does not fit {type(hf_model).__name__}: no module {', '.join(lacking[:5])}"
    )


def _embed_points(family: FamilyMap) -> Iterator[Point]:
    yield Point("hook_embed", family.at(family.embed), "output", Whole())
    if family.pos_embed is not None:
        yield Point("hook_pos_embed", family.at(family.pos_embed), "output", Whole())


def _final_points(family: FamilyMap, modules: Mapping[str, nn.Module]) -> Iterator[Point]:
    path = family.at(family.norm)
    yield from norm_points("ln_final", path, modules, family.gain_offset)
    yield Point("ln_final.hook_out", path, "output", Whole())
    yield Point("unembed.hook_out", family.unembed, "output", Whole())
