"""Tiny BLIP-2 and InstructBLIP: the image is asked by four queries, whose answers stand before the prompt."""

from typing import Any

from cmrm_interp.families.tiny.opt import opt_config
from cmrm_interp.families.tiny.parts import chat_template, text_config, tokenizer, vocabulary

_QUERIES = 4
_VISION: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
# Every second layer of the Q-Former looks at the image.
_QFORMER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "cross_attention_frequency": 2,
    "max_position_embeddings": 64,
    "vocab_size": len(vocabulary()),
}
# The processor writes the image's tokens itself, before everything else.
_TEMPLATE = chat_template("")


def blip_2(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny BLIP-2 with an OPT decoder."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor

    whole = Blip2Config(qformer_config=_QFORMER, text_config=opt_config(config), **_shared())
    processor = Blip2Processor(_images(), tokenizer(_TEMPLATE), num_query_tokens=_QUERIES)
    return Blip2ForConditionalGeneration(whole), processor


def instructblip(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny InstructBLIP with a Llama decoder, whose Q-Former reads the prompt with a tokenizer of its own."""
    from transformers import (
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        InstructBlipProcessor,
        LlamaConfig,
    )

    whole = InstructBlipConfig(qformer_config=_QFORMER, text_config=LlamaConfig(**text_config(config)), **_shared())
    processor = InstructBlipProcessor(
        _images(), tokenizer(_TEMPLATE), qformer_tokenizer=tokenizer(_TEMPLATE), num_query_tokens=_QUERIES
    )
    return InstructBlipForConditionalGeneration(whole), processor


def _shared() -> dict[str, Any]:
    return {"vision_config": _VISION, "num_query_tokens": _QUERIES, "image_token_index": vocabulary()["<image>"]}


def _images() -> Any:
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    return BlipImageProcessorPil(size={"height": 32, "width": 32})


BUILDERS = {"blip_2": blip_2, "instructblip": instructblip}
