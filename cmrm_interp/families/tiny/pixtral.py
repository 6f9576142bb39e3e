"""Tiny Pixtral and Mistral 3: images of any size, whose rows of patches end in a token of their own."""

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

    from cmrm_interp.families.processors import pixtral_processor

    size = {"height": patch_size, "width": patch_size}
    images = PixtralImageProcessorPil(patch_size=size, size={"longest_edge": 32})
    words = tokenizer(_TEMPLATE, extra=_EXTRA)
    return pixtral_processor()(images, words, patch_size=patch_size, chat_template=_TEMPLATE, **settings)


BUILDERS = {"mistral3": mistral3, "pixtral": pixtral}
