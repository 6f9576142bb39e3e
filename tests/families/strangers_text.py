"""Tiny text decoders of layouts that no registered family has."""

from typing import Any

import torch

from cmrm_interp.families.tiny.parts import randomise, text_config

# What cannot be proved of each, and is left out; everything else that a block may have is there.
SCORES = ("attn.hook_attn_scores", "attn.hook_pattern")
QKV = ("attn.hook_q", "attn.hook_k", "attn.hook_v")
Z = ("attn.hook_z", "attn.hook_result")
PARALLEL = ("hook_resid_mid", "ln2.hook_scale")
LEFT_OUT: dict[str, tuple[str, ...]] = {
    # A multiplier of what is added to the stream.
    "granite": (),
    # Keys and values of their own size, mixed with queries head by head.
    "gpt_neox": (*QKV, *PARALLEL),
    # Attention and MLP return the stream with what they add to it.
    "bloom": (*QKV, *SCORES, *Z),
    # The MLP's output is changed in place.
    "falcon": (*QKV, *SCORES, *Z, *PARALLEL),
    # Sinks take a part of each softmax; all experts are one module.
    "gpt_oss": ("attn.hook_attn_scores", "mlp.hook_pre", "mlp.hook_post"),
    # Differences of two attentions.
    "diffllama": (*QKV, *Z),
    # Keys and values of low rank; experts, and others that all tokens share.
    "deepseek_v3": QKV,
    # Norms behind attention and MLP alone.
    "olmo2": ("ln1.hook_scale", "ln2.hook_scale"),
}
ALL = (*QKV, *SCORES, *Z, *PARALLEL, "hook_attn_out", "ln1.hook_scale", "mlp.hook_pre", "mlp.hook_post", "hook_mlp_out")
_SMALL: dict[str, dict[str, Any]] = {
    "granite": {"residual_multiplier": 0.3, "attention_multiplier": 0.2, "embedding_multiplier": 2.0},
    "gpt_neox": {"num_key_value_heads": 4},
    "bloom": {"n_head": 4, "n_layer": 4, "num_key_value_heads": 4},
    "falcon": {"num_kv_heads": 2},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0}},
    "deepseek_v3": {"num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4,
                    "qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2,
                    "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 16,
                    "n_shared_experts": 1},
    "mamba": {"state_size": 4},
}  # fmt: skip


def decoder(kind: str) -> Any:
    """A random model of a ``model_type``, with attention that gives its weights."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hf = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**text_config(_SMALL.get(kind, {}))))
        randomise(hf)
    if kind != "mamba":
        hf.set_attn_implementation("eager")
    hf.generation_config.eos_token_id = None
    return hf.eval()


def two_prompts() -> dict[str, torch.Tensor]:
    """Ids of a longer and a shorter prompt, padded on the left."""
    ids = torch.tensor([[1, 5, 6, 20, 21, 22, 7, 8], [0, 0, 0, 1, 11, 12, 13, 14]])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}
