"""Tiny models that cut an image into tiles: LLaVA-NeXT."""

from typing import Any

from cmrm_interp.families.tiny.parts import SPECIAL, chat_template, text_config, tokenizer

# Height and width of what an image is fitted into; tiles are 16 pixels wide.
_PINPOINTS = [[16, 32], [32, 32], [48, 16], [16, 48]]


def llava_next(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny LLaVA-NeXT: CLIP over the whole image and two to four tiles, newline embeddings, a Llama decoder."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextProcessor,
    )
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, image_size=16, patch_size=8
    )
    whole = LlavaNextConfig(
        vision_config=vision,
        text_config=LlamaConfig(**text_config(config)),
        image_token_index=SPECIAL.index("<image>"),
        image_grid_pinpoints=_PINPOINTS,
        image_seq_length=4,
    )
    template = chat_template("<image>")
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, image_grid_pinpoints=_PINPOINTS
    )
    processor = LlavaNextProcessor(
        images, tokenizer(template), patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template,
    )  # fmt: skip
    return LlavaNextForConditionalGeneration(whole), processor


BUILDERS = {"llava_next": llava_next}
