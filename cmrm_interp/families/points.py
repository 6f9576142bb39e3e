"""The hook points of a model, in forward order, from its family's map."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from cmrm_interp.errors import ModelError
from cmrm_interp.families.maps import FamilyMap, Point
from cmrm_interp.families.views import Heads, Middle, Normalized, Pattern, Whole


def hook_points(family: FamilyMap, hf_model: Any) -> tuple[Point, ...]:
    """Hook points of a model in the order in which a forward pass with an image meets them.

    Args:
        family: the map.
        hf_model: the Hugging Face model.

    Raises:
        ModelError: a module that the map names is missing; the message lists all of them.
    """
    modules = dict(hf_model.named_modules())
    text = hf_model.config.get_text_config()
    n_layers, n_heads = text.num_hidden_layers, text.num_attention_heads
    points = [
        Point("hook_embed", f"{family.decoder}.embed_tokens", "output", Whole()),
        *_vision_points(family, modules),
        *(p for i in range(n_layers) for p in _block_points(family, i, n_heads, text.num_key_value_heads)),
        *_final_points(family, n_layers),
    ]
    missing = sorted({point.module for point in points} - modules.keys())
    if missing:
        raise ModelError(
            f"the map of family {family.name!r} does not fit {type(hf_model).__name__}:"
            f" no module {', '.join(missing[:5])}"
            f"{' ...' if len(missing) > 5 else ''}"
        )
    return tuple(points)


def _block_points(family: FamilyMap, layer: int, n_heads: int, n_kv_heads: int) -> Iterator[Point]:
    path, name, block = f"{family.decoder}.layers.{layer}", f"blocks.{layer}", family.block
    yield Point(f"{name}.hook_resid_pre", path, "input", Whole())
    yield Point(f"{name}.attn.hook_q", f"{path}.{block.q}", "output", Heads(n_heads))
    yield Point(f"{name}.attn.hook_k", f"{path}.{block.k}", "output", Heads(n_kv_heads))
    yield Point(f"{name}.attn.hook_v", f"{path}.{block.v}", "output", Heads(n_kv_heads))
    yield Point(f"{name}.attn.hook_pattern", f"{path}.{block.attn}", "attention", Pattern())
    yield Point(f"{name}.attn.hook_z", f"{path}.{block.o}", "input", Heads(n_heads))
    yield Point(f"{name}.hook_attn_out", f"{path}.{block.attn}", "output", Whole())
    yield Point(f"{name}.hook_resid_mid", f"{path}.{block.attn}", "output", Middle(f"{name}.hook_resid_pre"))
    yield Point(f"{name}.mlp.hook_post", f"{path}.{block.mlp_out}", "input", Whole())
    yield Point(f"{name}.hook_mlp_out", f"{path}.{block.mlp}", "output", Whole())
    yield Point(f"{name}.hook_resid_post", path, "output", Whole())


def _final_points(family: FamilyMap, n_layers: int) -> Iterator[Point]:
    norm = f"{family.decoder}.norm"
    view = Normalized(f"blocks.{n_layers - 1}.hook_resid_post", norm, gain_offset=family.gain_offset)
    yield Point("ln_final.hook_normalized", norm, "output", view)
    yield Point("unembed.hook_out", family.unembed, "output", Whole())


def _vision_points(family: FamilyMap, modules: Mapping[str, nn.Module]) -> Iterator[Point]:
    vision = family.vision
    if vision is None:
        return
    layers = next((path for path in vision.layers if path in modules), vision.layers[0])
    for i in range(len(list(modules[layers].children())) if layers in modules else 1):
        yield Point(f"vision.blocks.{i}.hook_resid_post", f"{layers}.{i}", "output", vision.patches)
    yield Point("vision.hook_out", vision.projector, "input", vision.patches)
    yield Point("projector.hook_out", vision.projector, "output", vision.projected)
