"""Tiny LLaVA."""

from typing import Any

from cmrm_interp.families.tiny.parts import SPECIAL, chat_template, text_config, tokenizer


def llava(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny LLaVA 1.5: CLIP tower, projector, Llama decoder."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    vision = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    tokens: dict[str, Any] = {"image_token_id": SPECIAL.index("<image>"), "pad_token_id": 0, "image_seq_length": 16}
    features: dict[str, Any] = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}
    whole = LlavaConfig(vision_config=vision, text_config=LlamaConfig(**text_config(config)), **tokens, **features)
    template = chat_template("<image>")
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        image_processor=images, tokenizer=tokenizer(template), patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template,
    )  # fmt: skip
    return LlavaForConditionalGeneration(whole), processor


BUILDERS = {"llava": llava}
