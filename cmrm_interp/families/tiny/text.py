"""Tiny text decoders."""

from typing import Any

from cmrm_interp.families.tiny.parts import chat_template, text_config, tokenizer


def llama(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**text_config(config))), tokenizer(chat_template("<image>"))


BUILDERS = {"llama": llama}
