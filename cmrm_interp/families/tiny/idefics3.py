"""Tiny Idefics3 and SmolVLM: an image is cut into tiles, each of four tokens, and comes once more as a whole."""

from typing import Any

from cmrm_interp.families.tiny.parts import chat_template, text_config, tokenizer, vocabulary

_TILES = tuple(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2))
_EXTRA = ("<fake_token_around_image>", "<global-img>", *_TILES, "<end_of_utterance>", "\n")
_SIZES: dict[str, Any] = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 16}}
_TEMPLATE = chat_template("<image>")


def idefics3(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Idefics3: up to two by two tiles."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    images = Idefics3ImageProcessorPil(**_SIZES)
    words = tokenizer(_TEMPLATE, extra=_EXTRA)
    processor = Idefics3Processor(images, words, image_seq_len=4, chat_template=_TEMPLATE)
    return Idefics3ForConditionalGeneration(Idefics3Config(**_config(config))), processor


def smolvlm(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny SmolVLM: Idefics3's parts, and a processor that asks for videos."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMProcessor
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    from cmrm_interp.families.processors import assemble

    images = SmolVLMImageProcessorPil(**_SIZES)
    processor = assemble(SmolVLMProcessor, images, tokenizer(_TEMPLATE, extra=_EXTRA), _TEMPLATE, image_seq_len=4)
    return SmolVLMForConditionalGeneration(SmolVLMConfig(**_config(config))), processor


def _config(config: dict[str, Any]) -> dict[str, Any]:
    from transformers import LlamaConfig

    vision = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    text = LlamaConfig(**text_config(config, _EXTRA))
    return {"vision_config": vision, "text_config": text, "scale_factor": 2, "image_token_id": vocabulary()["<image>"]}


BUILDERS = {"idefics3": idefics3, "smolvlm": smolvlm}
