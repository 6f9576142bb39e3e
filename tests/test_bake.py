"""Interventions in weights: equal to live ones where the architecture can hold them, refused in words elsewhere."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

import cmrm_interp as ci
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.families.tiny import TINY
from tests.oracles import hooks as oracle
from tests.support import STREAM, fresh, inputs_of, model_of, same, twin_of, vectors

PRE, MID, ATTN, MLP = (f"blocks.*.hook_{name}" for name in ("resid_pre", "resid_mid", "attn_out", "mlp_out"))
YES = ""
BIAS, NORM, GAIN = "its projection has no bias", "divides by a length", "that norm has no bias"
ROUTER, SKIPPED, OWN = "router weighs experts", "left out for prompts without an image", "embeddings of its own"
# What each family can hold: the ablation of the whole stream; a constant at every resid_post, at the first
# resid_mid (attn_out where there is none), and at the first resid_pre.
LLAMA_LIKE, QWEN_LIKE = (YES, YES, YES, YES), (YES, BIAS, BIAS, YES)
HOLDS = {
    "llava": LLAMA_LIKE,
    "llava_next": LLAMA_LIKE,
    "llava_onevision": QWEN_LIKE,
    "internvl": QWEN_LIKE,
    "qwen2_vl": QWEN_LIKE,
    "qwen2_5_vl": QWEN_LIKE,
    "qwen3_vl": (YES, BIAS, YES, YES),
    "qwen3_vl_moe": (YES, ROUTER, YES, YES),
    "glm4v": (NORM, GAIN, GAIN, BIAS),
    "paligemma": (YES, BIAS, YES, YES),
    "gemma3": (NORM, GAIN, GAIN, "ends in no linear layer"),
    "gemma4": (OWN, GAIN, GAIN, OWN),
    "mllama": (YES, SKIPPED, SKIPPED, YES),
    "idefics3": (YES, YES, YES, BIAS),
    "smolvlm": (YES, YES, YES, BIAS),
    "blip_2": LLAMA_LIKE,
    "instructblip": LLAMA_LIKE,
    "mistral3": QWEN_LIKE,
    "pixtral": QWEN_LIKE,
    "aya_vision": LLAMA_LIKE,
    "deepseek_vl": LLAMA_LIKE,
    "opt": LLAMA_LIKE,
    "llama": LLAMA_LIKE,
    "gpt2": LLAMA_LIKE,
    "gemma": (YES, BIAS, YES, YES),
    "gemma2": (NORM, GAIN, GAIN, YES),
    "qwen2": QWEN_LIKE,
    "qwen3": (YES, BIAS, YES, YES),
    "qwen3_moe": (YES, ROUTER, YES, YES),
    "mistral": QWEN_LIKE,
}
CASES = ("ablation", "post", "mid", "entry")
# By how transformers saves them: tied heads, experts, nested configurations, processors without video.
SAVED = "llava llava_onevision internvl qwen2_vl qwen3_vl_moe paligemma mllama smolvlm blip_2 pixtral aya_vision gpt2"


def direction(model, seed=0):
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))


def case_of(model, name):
    middle = "resid_mid" if "blocks.1.hook_resid_mid" in model.hook_points else "attn_out"
    return {
        "ablation": lambda: ci.ProjectOut(ci.whole_stream(model, direction(model))),
        "post": lambda: ci.Add(vectors(model, scale=0.3), 0.7, positions="all"),
        "mid": lambda: ci.Subtract(vectors(model, f"blocks.1.hook_{middle}", scale=0.5), positions="all"),
        "entry": lambda: ci.Add(vectors(model, "blocks.0.hook_resid_pre", seed=3), positions="all"),
    }[name]()


def runs(model):
    """Kinds of batches and sides of padding."""
    vision = model.family.vision
    if vision is None:
        return [("text", "right"), ("text", "left")]
    mixed = [("mixed", "right"), ("mixed", "left")] if vision.mixed else [("image", "left")]
    return [("text", "left"), ("image", "right"), *mixed]


def allowed(model):
    """How far logits may be apart in fp32."""
    # Gemma's embeddings are scaled and its gains are near two: logits of ten, and rounding to match.
    return 1e-4 if model.family.gain_offset else 1e-5


def assert_same_runs(model, acts, other):
    """Live interventions on one model and none on the other: logits of every real token, and greedy tokens."""
    for kind, side in runs(model):
        here, there = inputs_of(model, side, kind), inputs_of(other, side, kind)
        live, baked = model.logits(here, acts, positions="all"), other.logits(there, positions="all")
        assert float((live - baked)[here.mask("all")].abs().max()) < allowed(model), (kind, side)
    assert float((live - model.logits(here, positions="all"))[here.mask("all")].abs().max()) > 0.02
    same(model.generate_tokens(here, acts, 5), other.generate_tokens(there, max_new_tokens=5))


def outcome(model, acts):
    """A baked model, or the words of the refusal."""
    try:
        return ci.bake(model, acts), ""
    except ModelError as error:
        return None, str(error)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", TINY)
def test_every_family_holds_it_exactly_or_says_why_not(family, case):
    model = model_of(family)
    baked, words = outcome(model, case_of(model, case))
    reason = HOLDS[family][CASES.index(case)] if family in HOLDS else None
    # Families that are newer than the table only have to do one of the two.
    if reason or (reason is None and baked is None):
        assert f"{type(model.hf).__name__} cannot hold this in its weights" in words
        assert (reason or "") in words
        return
    assert baked is not None, words
    assert baked.agreement.logits < allowed(model)
    assert baked.agreement.with_image == (model.family.vision is not None)
    if case in ("ablation", "post"):
        assert_same_runs(model, case_of(model, case), baked.model)


@pytest.mark.parametrize("case", ["ablation", "entry"])
@pytest.mark.parametrize("family", ["gemma", "paligemma", "llava_next", "qwen3_vl", "mllama"])
def test_in_double_precision_nothing_is_left_but_the_order_of_sums(family, case):
    model = fresh(family, eager=False)
    model.hf.double()
    acts = case_of(model, case)
    wide = acts.directions.map(lambda vector, _: vector.double())
    found = ci.bake(model, replace(acts, directions=wide)).agreement
    assert found.states < 1e-10
    assert found.logits < 1e-10
    assert found.moved > 0.1


@pytest.mark.parametrize("case", ["ablation", "post"])
@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "llama"])
def test_against_hooks_on_a_bare_model_and_a_checkpoint_without_this_package(family, case, tmp_path):
    model = model_of(family)
    if HOLDS[family][CASES.index(case)] != YES:
        return
    inputs, v = inputs_of(model), direction(model) / direction(model).norm()
    shift = vectors(model, scale=0.3)
    if case == "ablation":
        names = [n for n in oracle.names(twin_of(family)) if n.startswith("blocks") and "resid" in n]
        edits = dict.fromkeys(names, lambda x: x - (x @ v)[..., None] * v)
    else:
        edits = {name: lambda x, name=name: x + 0.7 * shift[name] for name in shift}
    ci.bake(model, case_of(model, case), tmp_path / "out")
    auto = AutoModelForCausalLM if family == "llama" else AutoModelForImageTextToText
    plain = auto.from_pretrained(tmp_path / "out").eval()
    wanted, real = oracle.logits(twin_of(family), inputs.tensors, edits), inputs.mask("all")
    got = oracle.logits(plain, inputs.tensors)
    assert float((got - wanted)[real].abs().max()) < 1e-5
    assert float((oracle.logits(twin_of(family), inputs.tensors) - wanted)[real].abs().max()) > 0.1


@pytest.mark.parametrize("family", SAVED.split())
def test_a_folder_loads_again_as_it_was(family, tmp_path):
    model = model_of(family)
    case = "post" if HOLDS[family][1] == YES else "ablation"
    baked = ci.bake(model, case_of(model, case), tmp_path / "out")
    again = ci.load(tmp_path / "out")
    ours, theirs = baked.hf.state_dict(), again.hf.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        same(ours[name], theirs[name])
    kind, side = runs(model)[-1]
    live = model.logits(inputs_of(model, side, kind), case_of(model, case))
    assert float((again.logits(inputs_of(again, side, kind)) - live).abs().max()) < allowed(model)


def test_the_folder_says_what_is_in_it_and_where_a_server_looks(tmp_path):
    model = model_of("llava")
    shift = replace(vectors(model, scale=0.3), method="mean difference", model=model.fingerprint)
    baked = ci.bake(model, ci.Subtract(shift, 0.5, positions="all", layers=[1, 2]), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["text_config"]["mlp_bias"] is True
    assert not config["text_config"].get("attention_bias", False)
    about = json.loads((tmp_path / "out" / "bake.json").read_text())
    assert about["source"]["fingerprint"] == model.fingerprint
    assert about["made"]["weights_hash"] == baked.model.fingerprint != model.fingerprint
    assert about["made"]["versions"]["transformers"]
    done = about["interventions"][0]
    assert (done["kind"], done["alpha"], done["positions"]) == ("Subtract", 0.5, "all")
    assert (done["method"], len(done["hooks"])) == ("mean difference", 2)
    assert "text_config.mlp_bias=True" in about["notes"][0]
    assert about["agreement"]["logits"] < 1e-5
    assert about["agreement"]["with_image"]
    assert "mlp_bias=True" in repr(baked)
    weights = baked.hf.model.language_model.layers
    same(weights[1].mlp.down_proj.bias, -0.5 * shift["blocks.1.hook_resid_post"])
    assert not any(bool(weights[i].mlp.down_proj.bias.any()) for i in (0, 3))
    assert not bool(weights[1].mlp.gate_proj.bias.any())


def test_a_tied_head_keeps_its_rows_and_is_untied_in_so_many_words(tmp_path):
    for family in ("gpt2", "internvl", "opt", "aya_vision"):
        model = model_of(family)
        head = model.hf.get_submodule(model.family.unembed).weight
        baked = ci.bake(model, case_of(model, "ablation"), tmp_path / family)
        assert any("tie_word_embeddings=False" in note for note in baked.notes)
        for hf in (baked.hf, ci.load(tmp_path / family).hf):
            same(hf.get_submodule(model.family.unembed).weight, head)
            assert not torch.equal(hf.get_input_embeddings().weight, head)
        assert model.hf.get_submodule(model.family.unembed).weight is model.hf.get_input_embeddings().weight
    kept = ci.bake(model_of("gpt2"), case_of(model_of("gpt2"), "post"))
    assert kept.notes == ()
    assert kept.hf.lm_head.weight is kept.hf.transformer.wte.weight


@pytest.mark.parametrize("family", ["llava", "gpt2", "qwen3_vl_moe"])
def test_the_given_model_is_left_alone_and_shares_nothing(family):
    model = model_of(family)
    before = {name: tensor.clone() for name, tensor in model.hf.state_dict().items()}
    config, fingerprint = model.hf.config.to_dict(), model.fingerprint
    baked = ci.bake(model, case_of(model, "ablation"))
    for name, tensor in model.hf.state_dict().items():
        same(tensor, before[name])
    assert (model.hf.config.to_dict(), model.fingerprint) == (config, fingerprint)
    ours = {tensor.data_ptr() for tensor in model.hf.state_dict().values()}
    assert not ours & {tensor.data_ptr() for tensor in baked.hf.state_dict().values()}


def test_zero_strength_changes_no_weight():
    model = model_of("llama")
    acts = [
        ci.Add(vectors(model), 0.0, positions="all"),
        ci.ProjectOut(ci.whole_stream(model, direction(model)), 0.0),
    ]
    baked = ci.bake(model, acts).hf.state_dict()
    assert baked.keys() == model.hf.state_dict().keys()
    for name, tensor in model.hf.state_dict().items():
        same(tensor, baked[name])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_calculated_in_double_and_rounded_once(dtype):
    model = fresh("llama")
    model.hf.to(dtype)
    v = direction(model).double()
    baked = ci.bake(model, case_of(model, "ablation"))
    assert any(str(dtype) in note for note in baked.notes)
    assert baked.hf.dtype == dtype
    unit = v / v.norm()
    for name in ("model.layers.2.self_attn.o_proj.weight", "model.layers.0.mlp.down_proj.weight"):
        weight = model.hf.state_dict()[name].double()
        wanted, got = (weight - torch.outer(unit, unit @ weight)).to(dtype), baked.hf.state_dict()[name]
        # A basis in single precision may decide a rounding the other way here and there.
        assert float((wanted != got).double().mean()) < 0.01
    # Rounded to the dtype, the direction is gone but for the last bits.
    along = (unit @ baked.hf.model.layers[1].mlp.down_proj.weight.double()).abs().max()
    assert float(along) < 16 * torch.finfo(dtype).eps


def test_single_layers_outputs_at_any_strength_and_ablated():
    model = model_of("llama")
    acts_at = model.capture(inputs_of(model, kind="text"), [ATTN, MLP], "all")
    acts = [
        ci.ProjectOut(vectors(model, [ATTN, MLP]), alpha=0.4),
        ci.ProjectOut(vectors(model, "blocks.0.hook_resid_pre"), alpha=2.0),
        ci.Ablate("blocks.2.hook_mlp_out"),
        ci.Ablate("blocks.1.hook_attn_out", "mean", acts_at),
        ci.Add(vectors(model, "blocks.3.hook_mlp_out"), positions="all"),
    ]
    assert_same_runs(model, acts, ci.bake(model, acts).model)
    assert_same_runs(model, acts[::-1], ci.bake(model, acts[::-1]).model)


def test_other_ways_to_ablate_the_whole_stream():
    model, v = model_of("llama"), direction(model_of("llama"))
    subspace = torch.stack([v, direction(model, 1)])
    ways = {
        v: ([PRE, MID, STREAM], ["blocks.0.hook_resid_pre", MID, STREAM]),
        subspace: ([PRE, ATTN, MLP], ["hook_embed", ATTN, MLP]),
    }
    for vector, points in ((vector, points) for vector, several in ways.items() for points in several):
        names = ci.hooks.expand(points, model.hook_points)
        acts = ci.ProjectOut(ci.Directions(dict.fromkeys(names, vector)))
        assert_same_runs(model, acts, ci.bake(model, acts).model)
    # Up to some layer, and not after it.
    some = ci.ProjectOut(ci.whole_stream(model, v), layers=[0, 1])
    assert_same_runs(model, some, ci.bake(model, some).model)


def test_additions_beside_an_ablation_must_not_bring_the_direction_back():
    model = model_of("llama")
    ablation, shift = case_of(model, "ablation"), vectors(model, MID, scale=0.3)
    with pytest.raises(InputError, match=r"additions \(if any\) orthogonal to it"):
        ci.bake(model, [ablation, ci.Add(shift, positions="all")])
    # Nothing reads a block's output before the next block's beginning, where the direction is taken out again.
    unread = [ablation, ci.Add(vectors(model, scale=0.3), positions="all")]
    assert_same_runs(model, unread, ci.bake(model, unread).model)
    across = ci.Directions({name: ci.reject(vector, direction(model)) for name, vector in shift.items()})
    acts = [ablation, ci.Add(across, positions="all")]
    assert_same_runs(model, acts, ci.bake(model, acts).model)
    # Before the ablation at the same point, it is taken out like everything else.
    acts = [ci.Add(shift, positions="all"), ablation]
    assert_same_runs(model, acts, ci.bake(model, acts).model)
