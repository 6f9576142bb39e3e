"""Tiny Qwen2-VL."""

from typing import Any

from cmrm_interp.families.tiny.parts import SPECIAL, chat_template, text_config, tokenizer


def qwen2_vl(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Qwen2-VL: packed patches, merged two by two."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from cmrm_interp.families.processors import assemble

    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = {**text_config(config), "rope_parameters": rope}
    vision = {
        "depth": 3,
        "embed_dim": 24,
        "num_heads": 2,
        "mlp_ratio": 2,
        "patch_size": 4,
        "hidden_size": text["hidden_size"],
    }
    tokens = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    ids: dict[str, Any] = {f"{name}_token_id": SPECIAL.index(f"<|{word}|>") for name, word in tokens.items()}
    whole = Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
    template = chat_template("<|vision_start|><|image_pad|><|vision_end|>")
    images = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=8 * 8, max_pixels=32 * 32)
    return Qwen2VLForConditionalGeneration(whole), assemble(Qwen2VLProcessor, images, tokenizer(template), template)


BUILDERS = {"qwen2_vl": qwen2_vl}
