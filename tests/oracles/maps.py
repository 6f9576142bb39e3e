"""Where things are in each Hugging Face model, written down once more: a record a model type."""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Block:
    """A decoder block; projections are below `attn` and `mlp`, None (or absent) for what it does not have."""

    ln1: str = "input_layernorm"
    attn: str = "self_attn"
    ln2: str | None = "post_attention_layernorm"
    mlp: str = "mlp"
    qkv: str | None = None
    o: str = "o_proj"
    gate: str | None = "gate_proj"
    up: str | None = "up_proj"
    down: str = "down_proj"
    gate_up: str | None = None
    post_attn: str | None = None
    post_mlp: str | None = None
    tail: bool = False  # what Gemma 4 adds after the MLP, and its scaling of the whole


@dataclass(frozen=True)
class Tower:
    """The vision side; `gates` are factors of what a block adds: names of parameters, and whether through tanh."""

    stacks: tuple[str, ...]
    projector: str
    ln2: str = "layer_norm2"
    mlp: str = "mlp"
    post_mlp: str | None = None
    gates: dict[int, tuple[str, str, bool]] = field(default_factory=dict)
    order: str = "reading"  # "windows" (Qwen2.5-VL), "places" (Gemma 4)
    queries: bool = False  # a Q-Former


@dataclass(frozen=True)
class Net:
    """A model: paths of decoder and head, its block, its norms (`eps`: entry of the configuration, or a number)."""

    stack: str = "model.language_model"
    head: str = "lm_head"
    layers: str = "layers"
    embed: str = "embed_tokens"
    positions: str | None = None
    norm: str = "norm"
    block: Block = Block()
    tower: Tower | None = None
    centred: bool = False
    offset: float = 0.0
    eps: str | float = "rms_norm_eps"
    alone: str | None = None  # what is called without an image


SANDWICH = Block(
    post_attn="post_attention_layernorm", ln2="pre_feedforward_layernorm", post_mlp="post_feedforward_layernorm"
)
PARALLEL = Block(ln2=None)
OPT_BLOCK = Block(
    ln1="self_attn_layer_norm", ln2="final_layer_norm", o="out_proj", mlp="", gate="fc1", up=None, down="fc2"
)
GLM_BLOCK = Block(
    post_attn="post_self_attn_layernorm", post_mlp="post_mlp_layernorm", gate=None, up=None, gate_up="gate_up_proj"
)
GPT2_BLOCK = Block(ln1="ln_1", attn="attn", ln2="ln_2", qkv="c_attn", o="c_proj", gate="c_fc", up=None, down="c_proj")

CLIP = Tower(("model.vision_tower.encoder.layers",), "model.multi_modal_projector")
PACKED = Tower(("model.visual.blocks",), "model.visual.merger", ln2="norm2")
PIXTRAL = Tower(
    ("model.vision_tower.transformer.layers",), "model.multi_modal_projector", ln2="ffn_norm", mlp="feed_forward"
)
INTERN = Tower(
    ("model.vision_tower.encoder.layer",), "model.multi_modal_projector", "layernorm_after",
    gates={0: ("lambda_1", "lambda_2", False)},
)  # fmt: skip
MLLAMA = Tower(
    ("model.vision_model.transformer.layers", "model.vision_model.global_transformer.layers"),
    "model.multi_modal_projector", "post_attention_layernorm", gates={1: ("gate_attn", "gate_ffn", True)},
)  # fmt: skip
GEMMA4 = Tower(
    ("model.vision_tower.encoder.layers",), "model.embed_vision", "pre_feedforward_layernorm",
    post_mlp="post_feedforward_layernorm", order="places",
)  # fmt: skip
BLIP = Tower(("vision_model.encoder.layers",), "language_projection", queries=True)

TEXT = Net(stack="model")
OPT = Net(
    "model.decoder", positions="embed_positions", norm="final_layer_norm", block=OPT_BLOCK, centred=True, eps=1e-5
)
SIGLIP_VISION = replace(CLIP, stacks=("model.vision_model.encoder.layers",))
NETS = {
    "llava": Net(tower=CLIP),
    "llava:pixtral": Net(tower=PIXTRAL),
    "llava_next": Net(tower=CLIP),
    "llava_onevision": Net(tower=CLIP),
    "internvl": Net(tower=INTERN),
    "qwen2_vl": Net(tower=PACKED),
    "qwen2_5_vl": Net(tower=replace(PACKED, order="windows")),
    "qwen3_vl": Net(tower=PACKED),
    "qwen3_vl_moe": Net(tower=PACKED),
    "glm4v": Net(block=GLM_BLOCK, tower=PACKED),
    "paligemma": Net(tower=CLIP, offset=1.0),
    "paligemma:gemma2": Net(block=SANDWICH, tower=CLIP, offset=1.0),
    "gemma3": Net(block=SANDWICH, tower=CLIP, offset=1.0),
    "gemma4": Net(block=replace(SANDWICH, tail=True), tower=GEMMA4),
    "mllama": Net(tower=MLLAMA),
    "idefics3": Net("model.text_model", tower=replace(SIGLIP_VISION, projector="model.connector")),
    "smolvlm": Net("model.text_model", tower=replace(SIGLIP_VISION, projector="model.connector")),
    "blip-2": replace(
        OPT, stack="language_model.model.decoder", head="language_model.lm_head", tower=BLIP, alone="language_model"
    ),
    "instructblip": Net("language_model.model", "language_model.lm_head", tower=BLIP, alone="language_model"),
    "mistral3": Net(tower=PIXTRAL),
    "aya_vision": Net(block=PARALLEL, tower=CLIP, centred=True, eps="layer_norm_eps"),
    "deepseek_vl": Net(tower=replace(SIGLIP_VISION, projector="model.aligner")),
    "llama": TEXT,
    "qwen2": TEXT,
    "qwen3": TEXT,
    "qwen3_moe": TEXT,
    "mistral": TEXT,
    "gemma": replace(TEXT, offset=1.0),
    "gemma2": replace(TEXT, offset=1.0, block=SANDWICH),
    "opt": OPT,
    "gpt2": Net(
        "transformer", layers="h", embed="wte", positions="wpe", norm="ln_f", block=GPT2_BLOCK, centred=True,
        eps="layer_norm_epsilon",
    ),
}  # fmt: skip


def net(hf):
    """The record of a model: by its type, and that of its tower or its decoder."""
    config = hf.config
    parts = [getattr(config, name, None) for name in ("vision_config", "text_config")]
    keys = [f"{config.model_type}:{part.model_type}" for part in parts if part is not None]
    return next((NETS[key] for key in keys if key in NETS), None) or NETS[config.model_type]


def at(module, path):
    """A module's descendant."""
    return module.get_submodule(path) if path else module
