"""Plain text decoders: a backbone is compared with the vision-language model made from it."""

from cmrm_interp.families.maps import BlockMap, FamilyMap

LLAMA = FamilyMap(
    name="llama",
    model_types=("llama", "mistral", "qwen2", "qwen3"),
    decoder="model",
    hub_ids=("lmsys/vicuna-7b-v1.5", "Qwen/Qwen2-1.5B-Instruct"),
)
EXPERTS = BlockMap(gate=None, up=None, down=None, router="mlp.gate")
MIXTURE = FamilyMap(
    name="mixture",
    model_types=("mixtral", "qwen2_moe", "qwen3_moe"),
    decoder="model",
    blocks=(EXPERTS, BlockMap()),
    hub_ids=("Qwen/Qwen3-30B-A3B", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
)
GPT2 = FamilyMap(
    name="gpt2",
    model_types=("gpt2",),
    decoder="transformer",
    embed="wte",
    pos_embed="wpe",
    layers="h",
    norm="ln_f",
    blocks=(
        BlockMap(
            ln1="ln_1",
            attn="attn",
            q=None,
            k=None,
            v=None,
            qkv="attn.c_attn",
            o="attn.c_proj",
            ln2="ln_2",
            gate="mlp.c_fc",
            up=None,
            down="mlp.c_proj",
        ),
    ),
    positions=True,
    hub_ids=("openai-community/gpt2",),
)
OPT_BLOCK = BlockMap(
    ln1="self_attn_layer_norm",
    o="self_attn.out_proj",
    ln2="final_layer_norm",
    mlp="fc2",
    gate="fc1",
    up=None,
    down="fc2",
    flat_mlp=True,
)
OPT = FamilyMap(
    name="opt",
    model_types=("opt",),
    decoder="model.decoder",
    pos_embed="embed_positions",
    norm="final_layer_norm",
    blocks=(OPT_BLOCK,),
    hub_ids=("facebook/opt-1.3b",),
)
