"""Tiny OPT."""

from typing import Any

from cmrm_interp.families.tiny.parts import chat_template, text_config, tokenizer


def opt_config(config: dict[str, Any]) -> Any:
    """Configuration of a tiny OPT, changed by `config`."""
    from transformers import OPTConfig

    sizes = text_config({})
    del sizes["intermediate_size"], sizes["num_key_value_heads"]
    return OPTConfig(**{**sizes, "ffn_dim": 48, **config})


def opt(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny OPT; as OPT 350M with ``do_layer_norm_before=False, word_embed_proj_dim=16``."""
    from transformers import OPTForCausalLM

    return OPTForCausalLM(opt_config(config)), tokenizer(chat_template("<image>"))


BUILDERS = {"opt": opt}
