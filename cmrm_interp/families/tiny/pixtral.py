"""Tiny Pixtral and Mistral 3: images of any size, whose rows of patches end in a token of their own."""

import sys
from importlib import import_module
from typing import Any

from cmrm_interp.families.tiny.parts import chat_template, text_config, tokenizer, vocabulary

_EXTRA = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
_TEMPLATE = chat_template("[IMG]")


def pixtral(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Pixtral: LLaVA's parts around a tower that takes all images as one sequence."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    features: dict[str, Any] = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
    return LlavaForConditionalGeneration(LlavaConfig(**_config(config, patch_size=8), **features)), _processor(8)


def mistral3(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Mistral 3: Pixtral's tower, and a projector that merges patches two by two."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    merge = {"spatial_merge_size": 2, "tie_word_embeddings": False}
    whole = Mistral3Config(**_config(config, patch_size=4), **merge, vision_feature_layer=-1)
    return Mistral3ForConditionalGeneration(whole), _processor(4, spatial_merge_size=2)


def _config(config: dict[str, Any], patch_size: int) -> dict[str, Any]:
    from transformers import MistralConfig, PixtralVisionConfig

    vision = PixtralVisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=3,
        image_size=32,
        patch_size=patch_size,
    )
    text = MistralConfig(**{**text_config(config, _EXTRA), "sliding_window": None, "head_dim": 8})
    return {"vision_config": vision, "text_config": text, "image_token_index": vocabulary(_EXTRA)["[IMG]"]}


def _processor(patch_size: int, **settings: Any) -> Any:
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    size = {"height": patch_size, "width": patch_size}
    images = PixtralImageProcessorPil(patch_size=size, size={"longest_edge": 32})
    words = tokenizer(_TEMPLATE, extra=_EXTRA)
    return processor_class()(images, words, patch_size=patch_size, chat_template=_TEMPLATE, **settings)


def processor_class() -> Any:
    """PixtralProcessor, also without torchvision, which its module imports for a function that PIL's has as well."""
    package = "transformers.models.pixtral"
    wanted = f"{package}.image_processing_pixtral"
    from transformers.utils.import_utils import is_torchvision_available

    if is_torchvision_available():
        return import_module(f"{package}.processing_pixtral").PixtralProcessor
    sys.modules[wanted] = import_module(f"{package}.image_processing_pil_pixtral")
    try:
        return import_module(f"{package}.processing_pixtral").PixtralProcessor
    finally:
        del sys.modules[wanted]


BUILDERS = {"mistral3": mistral3, "pixtral": pixtral}
