"""Tiny Aya Vision: tiles before the whole image, and a decoder whose attention and MLP stand side by side."""

from typing import Any

from cmrm_interp.families.tiny.parts import chat_template, siglip, text_config, tokenizer, vocabulary

_TILES = tuple(f"TILE_{name}" for name in (1, 2, 3, 4, "GLOBAL"))
_EXTRA = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", *_TILES)


def aya_vision(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Aya Vision: SigLIP tower, up to four tiles, Cohere 2 decoder."""
    from transformers import (
        AyaVisionConfig,
        AyaVisionForConditionalGeneration,
        AyaVisionProcessor,
        Cohere2Config,
    )
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    text = Cohere2Config(**{**text_config({}, _EXTRA), "sliding_window": 16, "logit_scale": 0.5, **config})
    image_token = vocabulary(_EXTRA)["<|IMG_PATCH|>"]
    whole = AyaVisionConfig(
        vision_config={**siglip(), "image_size": 16, "patch_size": 4}, text_config=text, image_token_index=image_token
    )
    template = chat_template("<image>")
    images = GotOcr2ImageProcessorPil(
        size={"height": 16, "width": 16}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    processor = AyaVisionProcessor(
        images, tokenizer(template, extra=_EXTRA), patch_size=4, img_size=16, downsample_factor=2,
        chat_template=template,
    )  # fmt: skip
    return AyaVisionForConditionalGeneration(whole), processor


BUILDERS = {"aya_vision": aya_vision}
