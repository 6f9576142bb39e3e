"""The self-check: it passes on every family, names what is wrong with a wrong map, and leaves nothing behind."""

from dataclasses import replace

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp import selfcheck
from cmrm_interp.errors import ModelError
from cmrm_interp.families import register, registry, tiny
from cmrm_interp.families.maps import Gate, QFormerMap, VisionBlockMap
from cmrm_interp.families.views import Packed
from cmrm_interp.selfcheck import failures_of
from cmrm_interp.tracing import Network
from tests.support import FAMILIES, inputs_of, model_of, network, same


def blocks(**changes):
    """A map with other modules in every kind of block."""
    return lambda family: replace(family, blocks=tuple(replace(block, **changes) for block in family.blocks))


def vision(**changes):
    """A map with another vision side."""
    return lambda family: replace(family, vision=replace(family.vision, **changes))


def whole(**changes):
    """A map with other parts."""
    return lambda family: replace(family, **changes)


def cross(**changes):
    """Mllama's map with another cross-attention."""
    return lambda family: replace(family, blocks=(family.blocks[0], replace(family.blocks[1], **changes)))


# Family, what is wrong, the failure that must be told.
WRONG = {
    "the first norm as second": ("llama", blocks(ln2="input_layernorm"), "ln2.hook_scale: blocks.0.hook_resid_mid mov"),
    "the second norm as first": (
        "llama", blocks(ln1="post_attention_layernorm"), "ln1.hook_normalized: blocks.0.hook_attn_out did not move"
    ),
    "attention and MLP": ("llama", blocks(attn="mlp", mlp="self_attn"), "does not go through transformers' attention"),
    "down": ("llama", blocks(down="mlp.gate_proj"), "blocks.0.mlp.hook_pre: blocks.0.mlp.hook_post did not move"),
    "o": ("llama", blocks(o="self_attn.q_proj"), "not met in the order"),
    "the head": ("llama", whole(unembed="model.layers.0.mlp.up_proj"), "ln_final.hook_out: unembed.hook_out did not"),
    "attention before its norm": ("gemma2", blocks(post_attn=None), "blocks.0: resid_mid + mlp_out is not resid_post"),
    "an MLP before its norm": ("gemma2", blocks(post_mlp=None), "blocks.0: resid_mid + mlp_out is not resid_post"),
    "attention's norm": (
        "gemma2", blocks(post_attn="input_layernorm"), "blocks.0.attn.hook_q: blocks.0.hook_attn_out did not move"
    ),
    "the norm after as before": ("gemma2", blocks(ln2="post_attention_layernorm"), "not met in the order"),
    "parallel": ("aya_vision", blocks(parallel=False), "hook_resid_mid: blocks.0.hook_mlp_out did not move"),
    "no gates": (
        "internvl", vision(block=VisionBlockMap(attn="attention")), "vision.blocks.0: resid_mid + mlp_out is not"
    ),
    "the tower's attention and MLP": (
        "llava", vision(block=VisionBlockMap(attn="mlp", mlp="self_attn")),
        "vision.blocks.0.hook_resid_mid: vision.blocks.0.hook_mlp_out did not move",
    ),
    "the tower's norm": (
        "llava", vision(block=VisionBlockMap(attn="layer_norm1")), "vision.blocks.0: resid_mid + mlp_out is not resid"
    ),
    "positions": ("gpt2", whole(positions=False), "RuntimeError"),
    "gains around zero": ("gemma2", whole(gain_offset=0.0), "times the gain it is not ln_final.hook_out"),
    "an early norm as the last one": (
        "llama", whole(norm="layers.0.input_layernorm"), "blocks.3.hook_resid_post: ln_final.hook_out did not move"
    ),
}  # fmt: skip
# Changes that the check does not see. Whoever makes it see one moves it up.
UNSEEN = {
    "keys and values: either moves z": ("llama", blocks(k="self_attn.v_proj", v="self_attn.k_proj")),
    "gate and up: either moves their product": ("llama", blocks(gate="mlp.up_proj", up="mlp.gate_proj")),
    "half a projector: nothing compares the stream at image tokens": (
        "llava", vision(projector="model.multi_modal_projector.linear_1")
    ),
    "no third part: blocks that are scaled are not summed": ("gemma4", blocks(tail=None)),
    "another gate: the stream's middle is made with it, and what the MLP adds is the rest": (
        "mllama", cross(attn_gate=Gate("cross_attn_mlp_gate", tanh=True))
    ),
    "the order of windows: one image has all patches in either": (
        "qwen2_5_vl", vision(shape=Packed(), projected=Packed(merged=True))
    ),
    "a Q-Former's attention and MLP: its streams are normed after each sum": (
        "blip_2", vision(qformer=QFormerMap(attn="output_query.dense", mlp="attention.output.dense"))
    ),
}  # fmt: skip


def failures(family, change):
    """What the check says of a changed map."""
    model = model_of(family)
    return failures_of(Network(model.hf, change(model.family)), model.encoder, every_layer=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_of_every_family_passes(family):
    model = model_of(family)
    assert failures_of(Network(model.hf, model.family), model.encoder, every_layer=True) == []


# Gemma 2 has no SDPA; a matrix product of torch takes no bf16 of so few columns as the tiny experts have.
SDPA = [(family, "sdpa", torch.float32) for family in ("llava", "qwen2_5_vl", "qwen3_moe", "mllama", "blip_2", "gpt2")]
HALF = [(family, "eager", torch.bfloat16) for family in ("llava", "qwen2_5_vl", "gemma2", "mllama", "blip_2", "gpt2")]


@pytest.mark.parametrize(("family", "attention", "dtype"), SDPA + HALF)
def test_it_passes_with_sdpa_and_in_bf16(family, attention, dtype):
    hf, processor = tiny(family)
    hf.set_attn_implementation(attention)
    ci.load((hf.to(dtype), processor))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "llava", "gpt2", "gemma2"])
def test_it_passes_where_single_values_are_huge(family, dtype):
    hf, processor = network(family)
    with torch.no_grad():
        # One coordinate of the stream thousands of times the others, as trained models have it at some tokens.
        hf.get_input_embeddings().weight[::2, 3] *= 5000
    ci.load((hf.to(dtype), processor))


@pytest.mark.parametrize("family", ["llava", "mllama", "qwen3_vl"])
def test_it_passes_without_a_processor(family):
    ci.load((tiny(family)[0], None))


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_map_is_told(what):
    family, change, words = WRONG[what]
    found = failures(family, change)
    assert any(words in line for line in found), found


@pytest.mark.parametrize("what", UNSEEN)
def test_what_the_check_does_not_see(what):
    assert failures(*UNSEEN[what]) == []


@pytest.fixture
def wrong(monkeypatch):
    """A registered map whose second norm and down projection are wrong, and a model that it is for."""
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    monkeypatch.setattr(selfcheck, "_PASSED", {})
    family = model_of("llama").family
    register(blocks(ln2="input_layernorm", down="mlp.gate_proj")(family))
    return network("llama")


def test_one_error_lists_every_failure(wrong):
    with pytest.raises(ModelError) as caught:
        ci.load(wrong)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("the map of family 'llama' does not fit LlamaForCausalLM (")
    assert "  blocks.0.ln2.hook_scale: blocks.0.hook_resid_mid moved" in lines
    assert "  blocks.3.mlp.hook_pre: blocks.3.mlp.hook_post did not move" in lines
    assert lines[-1] == "register a better FamilyMap, or pass check=False to go on"
    assert f"({len(lines) - 2} checks failed)" in lines[0] or len(lines) == 22


def test_without_the_check_a_wrong_map_is_taken(wrong):
    model = ci.load(wrong, check=False)
    assert model.capture(model.prepare("red"), "blocks.0.hook_resid_post")


def test_what_passed_is_not_tried_again(monkeypatch):
    tried = []
    monkeypatch.setattr(selfcheck, "_PASSED", {})
    failures = selfcheck.failures_of
    monkeypatch.setattr(selfcheck, "failures_of", lambda *given: tried.append(1) or failures(*given))
    for seed in (0, 1):
        ci.load(tiny("llama", seed=seed))
    assert len(tried) == 1
    ci.load(tiny("llama", num_hidden_layers=2))
    hf, tokenizer = tiny("llama")
    hf.set_attn_implementation("eager")
    ci.load((hf, tokenizer))
    ci.load((hf.to(torch.bfloat16), tokenizer))
    assert len(tried) >= 3


def test_what_failed_is_tried_again(wrong):
    for _ in range(2):
        with pytest.raises(ModelError, match="checks failed"):
            ci.load(wrong)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "mllama", "glm4v", "blip_2", "gpt2"])
def test_it_leaves_the_model_as_it_was(family):
    hf, processor = network(family)
    model = ci.load((hf, processor), check=False)
    inputs = inputs_of(model, kind="image")
    before = model.logits(inputs, positions="all")
    weights = {name: tensor.clone() for name, tensor in hf.state_dict().items()}
    left = {n: v for n, v in vars(getattr(hf, "model", hf)).items() if not n.startswith("_")}
    state = torch.get_rng_state()
    assert failures_of(model.network, model.encoder) == []
    same(torch.get_rng_state(), state)
    assert not hf.training
    assert all(vars(getattr(hf, "model", hf))[name] is value for name, value in left.items())
    assert all(torch.equal(tensor, hf.state_dict()[name]) for name, tensor in weights.items())
    same(model.logits(inputs, positions="all"), before)
