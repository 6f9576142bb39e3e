"""Tiny DeepSeek-VL."""

from typing import Any

from cmrm_interp.families.tiny.parts import chat_template, siglip, text_config, tokenizer, vocabulary

_EXTRA = ("<image_placeholder>",)


def deepseek_vl(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny DeepSeek-VL: SigLIP tower, images padded to squares of 16 tokens, Llama decoder."""
    from transformers import (
        DeepseekVLConfig,
        DeepseekVLForConditionalGeneration,
        DeepseekVLProcessor,
        LlamaConfig,
    )
    from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import DeepseekVLImageProcessorPil

    text = LlamaConfig(**text_config(config, _EXTRA))
    tokens: dict[str, Any] = {"image_token_id": vocabulary(_EXTRA)["<image_placeholder>"]}
    whole = DeepseekVLConfig(vision_config=siglip(), text_config=text, tie_word_embeddings=False, **tokens)
    template = chat_template("<image_placeholder>")
    images = DeepseekVLImageProcessorPil(size={"height": 32, "width": 32}, min_size=8)
    words = tokenizer(template, extra=_EXTRA, image_token="<image_placeholder>")
    processor = DeepseekVLProcessor(images, words, chat_template=template, num_image_tokens=16)
    return DeepseekVLForConditionalGeneration(whole), processor


BUILDERS = {"deepseek_vl": deepseek_vl}
