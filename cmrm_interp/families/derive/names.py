"""What Hugging Face's models call their parts."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn

QUERY = ("q_proj", "query", "wq", "q", "q_lin")
KEY = ("k_proj", "key", "wk", "k", "k_lin")
VALUE = ("v_proj", "value", "wv", "v", "v_lin")
OUT = ("o_proj", "out_proj", "c_proj", "dense", "wo", "proj", "projection", "projection_layer", "o", "out_lin")
# One matrix after another; others go head by head, which no name tells.
FUSED = ("c_attn", "qkv_proj")
GATE, UP, GATE_UP = ("gate_proj", "w1"), ("up_proj", "w3"), ("gate_up_proj",)
PLAIN = ("fc1", "c_fc", "dense_h_to_4h", "fc_in", "linear_fc1", "linear_1", "wi", "lin1", "up_proj")
DOWN = ("down_proj", "fc2", "c_proj", "w2", "dense_4h_to_h", "fc_out", "linear_fc2", "linear_2", "wo", "lin2")
ROUTER = ("gate", "router")
# Parts of attention and MLP whose calls are looked at.
PARTS = frozenset((*QUERY, *KEY, *VALUE, *OUT, *FUSED, *GATE, *UP, *GATE_UP, *PLAIN, *DOWN, *ROUTER))
# What has no say in what a block computes.
NOTHING = (nn.Dropout, nn.Identity)
EMBED_POSITIONS = ("wpe", "embed_positions", "position_embeddings", "position_embedding", "embed_pos")
TOWERS = ("vision_tower", "visual", "vision_model", "vision_encoder", "vision_embed_tokens", "vision_backbone")
PROJECTORS = (
    "multi_modal_projector",
    "mm_projector",
    "connector",
    "aligner",
    "vision_projector",
    "vision_projection",
    "image_to_text_projection",
    "image_projection",
    "embed_vision",
    "language_projection",
    "visual.merger",
    "vision_tower.merger",
    "merger",
    "adapter",
    "projector",
    "resampler_model",
    "visual_embeddings_table",
)
# The pixels themselves, and what a forward may be given of images besides.
_PIXELS = ("pixel_values", "image_patches", "flattened_patches")
_OF_IMAGES = ("pixel", "image", "patch", "crop", "tile", "aspect_ratio", "spatial_shapes", "target_sizes")
_OF_OTHERS = ("video", "embed", "attention_mask", "position_mask", "encoder", "feature_layer")


def images_among(parameters: Iterable[str]) -> tuple[str, ...]:
    """Those of a forward's parameters that carry images, the pixels first."""
    found = [
        name
        for name in parameters
        if name.startswith(_PIXELS) or any(part in name for part in _OF_IMAGES)
        if not any(part in name.replace("pixel_attention_mask", "") for part in _OF_OTHERS)
    ]
    return tuple(sorted(found, key=lambda name: not name.startswith(_PIXELS)))


def child(module: nn.Module, names: Sequence[str]) -> str | None:
    """The first of the names that a module has as a child."""
    children = dict(module.named_children())
    return next((name for name in names if name in children), None)


def path_of(hf: Any, wanted: nn.Module | None) -> str | None:
    """Path of a module in a model."""
    return next((path for path, module in hf.named_modules() if module is wanted), None)


def stacks(root: nn.Module, prefix: str) -> Iterator[tuple[str, nn.ModuleList]]:
    """Lists of blocks below a module, the outer ones first."""
    for path, module in root.named_modules():
        if isinstance(module, nn.ModuleList) and len(module):
            yield f"{prefix}.{path}" if prefix else path, module


def is_attention(name: str, module: nn.Module) -> bool:
    """Whether a block's child is its attention (or what stands in its place)."""
    low = f"{name} {type(module).__name__}".lower()
    return ("attn" in low or "attention" in low) and not is_norm(name, module)


def is_mlp(name: str, module: nn.Module) -> bool:
    """Whether a block's child is its MLP or mixture of experts."""
    low = f"{name} {type(module).__name__}".lower()
    found = any(part in low for part in ("mlp", "feed_forward", "feedforward", "moe", "ffn"))
    return found and not is_norm(name, module) and not is_attention(name, module)


def is_norm(name: str, module: nn.Module) -> bool:
    """Whether a module is a norm."""
    low = f"{name} {type(module).__name__}".lower()
    return "norm" in low or name.startswith("ln_") or name in ("ln1", "ln2", "ln_f")
