"""Tiny models with packed patches of any image size: Qwen2-VL, Qwen2.5-VL, Qwen3-VL (also with experts), GLM-4V."""

from typing import Any

from cmrm_interp.families.tiny.parts import SPECIAL, chat_template, text_config, tokenizer, vocabulary


def qwen2_vl(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Qwen2-VL: packed patches, merged two by two."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

    text = {**text_config(config), "rope_parameters": _rope([1, 1, 2])}
    vision = {
        "depth": 3,
        "embed_dim": 24,
        "num_heads": 2,
        "mlp_ratio": 2,
        "patch_size": 4,
        "hidden_size": text["hidden_size"],
    }
    whole = Qwen2VLConfig(text_config=text, vision_config=vision, **_ids())
    return Qwen2VLForConditionalGeneration(whole), _processor(Qwen2VLProcessor)


def qwen2_5_vl(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Qwen2.5-VL: windows of attention in the tower, which reorder the patches."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    text = {**text_config(config), "rope_parameters": _rope([1, 1, 2])}
    # Windows of two by two merged patches: a picture of 32 pixels has four.
    vision = {**_tower(text), "window_size": 16, "fullatt_block_indexes": [1]}
    whole = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_ids())
    return Qwen2_5_VLForConditionalGeneration(whole), _processor(Qwen2_5_VLProcessor)


def qwen3_vl(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Qwen3-VL: features of two tower layers are added to the first two layers of the decoder."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    text = {"head_dim": 12, **text_config(config), "rope_parameters": _rope([2, 2, 2])}
    whole = Qwen3VLConfig(text_config=text, vision_config=_deepstack(text), **_ids())
    return Qwen3VLForConditionalGeneration(whole), _processor(Qwen3VLProcessor)


def qwen3_vl_moe(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Qwen3-VL with a mixture of experts: two of four a token, and an ordinary MLP in the first layer."""
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration, Qwen3VLProcessor

    own = {
        "head_dim": 12,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 20,
        "mlp_only_layers": [0],
    }
    text = {**own, **text_config(config), "rope_parameters": _rope([2, 2, 2])}
    whole = Qwen3VLMoeConfig(text_config=text, vision_config=_deepstack(text), **_ids())
    return Qwen3VLMoeForConditionalGeneration(whole), _processor(Qwen3VLProcessor)


def glm4v(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny GLM-4V: norms after attention and MLP too, half of each head rotated, gate and up in one matrix."""
    from transformers import Glm4vConfig, Glm4vForConditionalGeneration, Glm4vProcessor
    from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil

    from cmrm_interp.families.processors import assemble

    kinds = {"image": "<|image|>", "video": "<|video|>"}
    ends = {
        f"{kind}_{end}": f"<|{word}_of_{kind}|>" for kind in kinds for end, word in (("start", "begin"), ("end", "end"))
    }
    words = {**kinds, **ends}
    extra = tuple(words.values())
    # Two heads, so that half of one still has room for time, height and width.
    text = text_config({"num_attention_heads": 2, "num_key_value_heads": 1, **config}, extra)
    text["rope_parameters"] = {**_rope([1, 1, 2]), "partial_rotary_factor": 0.5}
    ids: dict[str, Any] = {f"{name}_token_id": vocabulary(extra)[word] for name, word in words.items()}
    whole = Glm4vConfig(text_config=text, vision_config={**_tower(text), "image_size": 32}, **ids)
    template = chat_template("<|begin_of_image|><|image|><|end_of_image|>")
    # Its sizes count an image as two frames.
    size = {"shortest_edge": 2 * 8 * 8, "longest_edge": 2 * 32 * 32}
    sizes: dict[str, Any] = {"patch_size": 4, "merge_size": 2, "size": size}
    images = Glm4vImageProcessorPil(**sizes)
    return Glm4vForConditionalGeneration(whole), assemble(Glm4vProcessor, images, tokenizer(template, extra), template)


def _tower(text: dict[str, Any]) -> dict[str, Any]:
    return {
        "depth": 3,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_heads": 2,
        "patch_size": 4,
        "out_hidden_size": text["hidden_size"],
    }


def _deepstack(text: dict[str, Any]) -> dict[str, Any]:
    # Each of its mergers has a square matrix of four times the width.
    return {**_tower(text), "hidden_size": 16, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 2]}


def _rope(section: list[int]) -> dict[str, Any]:
    return {"rope_type": "default", "mrope_section": section, "rope_theta": 10000.0}


def _ids() -> dict[str, Any]:
    tokens = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{name}_token_id": SPECIAL.index(f"<|{word}|>") for name, word in tokens.items()}


def _processor(kind: type) -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from cmrm_interp.families.processors import assemble

    template = chat_template("<|vision_start|><|image_pad|><|vision_end|>")
    images = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=8 * 8, max_pixels=32 * 32)
    return assemble(kind, images, tokenizer(template), template)


BUILDERS = {
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl_moe,
    "glm4v": glm4v,
}
