"""Tiny models that cut an image into tiles: LLaVA-NeXT, LLaVA-OneVision, InternVL."""

from typing import Any

from cmrm_interp.families.tiny.parts import SPECIAL, chat_template, siglip, text_config, tokenizer, vocabulary

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


def llava_onevision(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny LLaVA-OneVision: SigLIP over tiles, features shrunk where they are many, a Qwen2 decoder."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, LlavaOnevisionProcessor
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    from cmrm_interp.families.processors import assemble

    extra = ("<video>",)
    pinpoints = [[16, 16], [32, 16], *_PINPOINTS]
    whole = LlavaOnevisionConfig(
        vision_config={**siglip(), "image_size": 16},
        text_config={"model_type": "qwen2", **text_config(config, extra)},
        image_token_index=SPECIAL.index("<image>"),
        video_token_index=vocabulary(extra)["<video>"],
        image_grid_pinpoints=pinpoints,
        vision_aspect_ratio="anyres_max_2",  # more than two tiles are shrunk to as many features as two have
    )
    template = chat_template("<image>")
    images = LlavaOnevisionImageProcessorPil(size={"height": 16, "width": 16}, image_grid_pinpoints=pinpoints)
    processor = assemble(
        LlavaOnevisionProcessor, images, tokenizer(template, extra), template, num_image_tokens=4,
        vision_feature_select_strategy="full", vision_aspect_ratio="anyres_max_2",
    )  # fmt: skip
    return LlavaOnevisionForConditionalGeneration(whole), processor


def internvl(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny InternVL: up to four tiles and the whole image, patches folded two by two, a Qwen2 decoder."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    from cmrm_interp.families.processors import assemble

    named = {
        "context_image_token": "<IMG_CONTEXT>",
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "video_token": "<video>",
    }
    extra = tuple(named.values())
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "attention_bias": True,
        "image_size": 16,
        "patch_size": 4,
    }
    whole = InternVLConfig(
        vision_config=vision,
        text_config={"model_type": "qwen2", **text_config(config, extra)},
        image_token_id=vocabulary(extra)["<IMG_CONTEXT>"],
        image_seq_length=4,
    )
    template = chat_template("<IMG_CONTEXT>")
    images = GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, crop_to_patches=True, max_patches=4)
    words = tokenizer(template, extra, **named)
    return InternVLForConditionalGeneration(whole), assemble(
        InternVLProcessor, images, words, template, image_seq_length=4
    )


BUILDERS = {"llava_next": llava_next, "llava_onevision": llava_onevision, "internvl": internvl}
