"""Tiny text decoders."""

from typing import Any

from cmrm_interp.families.tiny.parts import chat_template, text_config, tokenizer


def llama(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**text_config(config))), _words()


def gpt2(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny GPT-2: learned positions, biases everywhere, transposed weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = text_config(config)
    own = {
        "n_embd": sizes.pop("hidden_size"),
        "n_layer": sizes.pop("num_hidden_layers"),
        "n_head": sizes.pop("num_attention_heads"),
        "n_inner": sizes.pop("intermediate_size"),
        "n_positions": sizes.pop("max_position_embeddings"),
    }
    del sizes["num_key_value_heads"]
    return GPT2LMHeadModel(GPT2Config(**sizes, **own)), _words()


def gemma(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Gemma: embeddings scaled by the root of the width, gains that are one more than the weights."""
    from transformers import GemmaConfig, GemmaForCausalLM

    return GemmaForCausalLM(GemmaConfig(**{"head_dim": 12, **text_config(config)})), _words()


def gemma2(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Gemma 2: norms after attention and MLP too, softcapped scores and logits, sliding windows."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    # Caps and a window small enough to be felt.
    own = {
        "head_dim": 12,
        "query_pre_attn_scalar": 10,
        "sliding_window": 8,
        "final_logit_softcapping": 5.0,
        "attn_logit_softcapping": 2.0,
    }
    return Gemma2ForCausalLM(Gemma2Config(**{**own, **text_config(config)})), _words()


def qwen2(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Qwen2: biases on queries, keys and values."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**text_config(config))), _words()


def qwen3(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Qwen3: norms of queries and keys, heads whose sizes do not add up to the width."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**{"head_dim": 12, **text_config(config)})), _words()


def qwen3_moe(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny mixture of experts: two of four a token, and an ordinary MLP in the first layer."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    own = {
        "head_dim": 12,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 20,
        "mlp_only_layers": [0],
        "norm_topk_prob": True,
    }
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**{**own, **text_config(config)})), _words()


def mistral(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Mistral: a window of attention that is shorter than most prompts."""
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**{"head_dim": 12, "sliding_window": 8, **text_config(config)})), _words()


def _words() -> Any:
    return tokenizer(chat_template("<image>"))


BUILDERS = {
    "llama": llama,
    "gpt2": gpt2,
    "gemma": gemma,
    "gemma2": gemma2,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3_moe": qwen3_moe,
    "mistral": mistral,
}
