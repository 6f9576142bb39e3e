"""Ablation sweeps, units and skipped blocks against bare torch hooks on a network of one's own."""

import warnings

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError
from tests.oracles import hooks as oracle
from tests.support import LAWFUL, TEXTS, close, inputs_of, model_of, picture, same, twin_of, unchecked, vectors

FEW = ("llava", "qwen2_vl", "gpt2", "gemma3")


def third(logits):
    return logits[:, 3]


def swept(model, inputs, unit, kind="zero", metric=third, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ci.ablation_sweep(model, inputs, unit, metric, kind, **options)


def by_hand(family, inputs, edits):
    """The third logit at each row's last token, with bare hooks."""
    logits = oracle.logits(twin_of(family), inputs.tensors, edits)
    return logits[inputs.mask("last")][:, 3]


def real_of(inputs):
    return inputs.tensors["attention_mask"].bool()


def replaced(mask, value, part=slice(None)):
    """An edit that puts a value at some tokens (and heads or neurons)."""

    def edit(x):
        out = x.clone()
        rows, columns = mask.nonzero(as_tuple=True)
        new = out[rows, columns]
        new[:, part] = value[part] if isinstance(value, torch.Tensor) and value.ndim else value
        out[rows, columns] = new
        return out

    return edit


def leaving_out(layer):
    """Edits that make a block's output its input."""
    kept = []
    return {
        f"blocks.{layer}.hook_resid_pre": lambda x: kept.append(x.clone()),
        f"blocks.{layer}.hook_resid_post": lambda x: kept[-1],
    }


def some(model):
    return inputs_of(model, kind="image") if model.family.vision else inputs_of(model)


@pytest.mark.parametrize("family", LAWFUL)
def test_a_block_that_is_left_out_leaves_the_stream_as_it_was(family):
    model = model_of(family)
    inputs = inputs_of(model)
    result = swept(model, inputs, "layer", layers=[1, -1])
    for place, layer in enumerate(result.axes["layer"]):
        close(torch.tensor(result.values()[place]).float(), by_hand(family, inputs, leaving_out(layer)))
    with_both = model.capture(inputs, ["blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"], "all", [ci.Skip(1)])
    mask = with_both.mask
    same(with_both["blocks.1.hook_resid_pre"][mask], with_both["blocks.1.hook_resid_post"][mask])
    assert (np.abs(result.values() - result.values(clean=True)) > 1e-4).any()


def test_skips_follow_earlier_edits_and_one_another():
    model, inputs, shift = model_of("llava"), inputs_of(model_of("llava")), vectors(model_of("llava"))
    acting = [ci.Add(shift, positions="all", layers=[0]), ci.Skip([1, 2])]
    real = real_of(inputs)
    edits = {**leaving_out(1), **leaving_out(2)}
    edits["blocks.0.hook_resid_post"] = lambda x: x + real[..., None] * shift["blocks.0.hook_resid_post"]
    close(model.logits(inputs, acting)[:, 3], by_hand("llava", inputs, edits))
    # At some tokens alone, and behind a gate.
    last = inputs.mask("last")[..., None]
    kept = []
    edits = {
        "blocks.1.hook_resid_pre": lambda x: kept.append(x.clone()),
        "blocks.1.hook_resid_post": lambda x: torch.where(last, kept[-1], x),
    }
    close(model.logits(inputs, ci.Skip(1, positions="last"))[:, 3], by_hand("llava", inputs, edits))
    never = ci.Gate(lambda x: torch.zeros(len(x), dtype=torch.bool), ci.Skip(1))
    same(model.logits(inputs, never), model.logits(inputs))


def test_a_skipped_block_stays_so_while_generating():
    model = model_of("gpt2")
    inputs = inputs_of(model)
    tokens = model.generate_tokens(inputs, ci.Skip(1), max_new_tokens=4)
    wanted, _, _ = oracle.generate(twin_of("gpt2"), inputs.tensors, 4, leaving_out(1))
    assert tokens.tolist() == wanted.tolist()


@pytest.mark.parametrize("unit", ["attn", "mlp"])
@pytest.mark.parametrize("family", FEW)
def test_attention_and_mlps(family, unit):
    model = model_of(family)
    inputs, name = some(model), f"hook_{unit}_out"
    result = swept(model, inputs, unit)
    assert result.axes == {"layer": tuple(range(model.n_layers))}
    for layer in range(model.n_layers):
        edits = {f"blocks.{layer}.{name}": replaced(real_of(inputs), 0.0)}
        close(torch.tensor(result.values()[layer]).float(), by_hand(family, inputs, edits))


@pytest.mark.parametrize("family", FEW)
def test_heads(family):
    model = model_of(family)
    inputs = some(model)
    result = swept(model, inputs, "head", layers=[0, 1])
    assert result.axes == {"layer": (0, 1), "head": tuple(range(model.n_heads))}
    for layer in (0, 1):
        for head in range(model.n_heads):
            edits = {f"blocks.{layer}.attn.hook_z": replaced(real_of(inputs), 0.0, head)}
            close(torch.tensor(result.values()[layer, head]).float(), by_hand(family, inputs, edits))
    assert swept(model, inputs, "head", layers=1, heads=[1]).axes == {"layer": (1,), "head": (1,)}


@pytest.mark.parametrize("family", FEW)
def test_neurons(family):
    model = model_of(family)
    inputs, chosen = some(model), {"a few": [0, 3, 5], "one": [7]}
    result = swept(model, inputs, "neuron", neurons=chosen, layers=[1])
    for place, neurons in enumerate(chosen.values()):
        edits = {"blocks.1.mlp.hook_post": replaced(real_of(inputs), 0.0, neurons)}
        close(torch.tensor(result.values()[0, place]).float(), by_hand(family, inputs, edits))
    blocks = swept(model, inputs, "neuron", layers=[1]).axes["neurons"]
    assert len(blocks) == 8
    assert blocks[0].startswith("0-")
    d_mlp = model.capture(inputs, "blocks.1.mlp.hook_post")["blocks.1.mlp.hook_post"].shape[-1]
    assert blocks[-1].endswith(f"-{d_mlp - 1}")
    assert swept(model, inputs, "neuron", layers=[1], neurons=range(2)).axes["neurons"] == ("0", "1")


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_image_tokens_vision_layers_and_the_projector(family):
    model = model_of(family)
    inputs = some(model)
    result = swept(model, inputs, "image_tokens")
    for layer in range(model.n_layers):
        edits = {f"blocks.{layer}.hook_resid_pre": replaced(inputs.mask("image"), 0.0)}
        close(torch.tensor(result.values()[layer]).float(), by_hand(family, inputs, edits))
    result = swept(model, inputs, "vision_layer")
    for layer in result.axes["layer"]:
        parts = (f"vision.blocks.{layer}.hook_{name}_out" for name in ("attn", "mlp"))
        close(
            torch.tensor(result.values()[layer]).float(),
            by_hand(family, inputs, dict.fromkeys(parts, torch.zeros_like)),
        )
    result = swept(model, inputs, "projector")
    assert result.axes == {"unit": ("projector",)}
    wanted = by_hand(family, inputs, {"projector.hook_out": torch.zeros_like})
    close(torch.tensor(result.values()[0]).float(), wanted)


@pytest.mark.parametrize("family", FEW)
def test_the_mean_over_a_reference_set(family):
    model = model_of(family)
    inputs, reference = some(model), model.prepare(TEXTS[::-1], picture(7) if model.family.vision else None)
    result = swept(model, inputs, "attn", "mean", reference=reference, layers=[0, 1])
    name = "blocks.1.hook_attn_out"
    states = oracle.read(twin_of(family), reference.tensors, wanted=[name])[name][real_of(reference)]
    edits = {name: replaced(real_of(inputs), states.double().mean(0).float())}
    close(torch.tensor(result.values()[1]).float(), by_hand(family, inputs, edits))
    # Heads keep their own part of the mean, and only at the positions that are asked for.
    result = swept(model, inputs, "head", "mean", reference=reference, layers=[1], heads=[1], positions="last")
    name = "blocks.1.attn.hook_z"
    states = oracle.read(twin_of(family), reference.tensors, wanted=[name])[name][reference.mask("last")]
    edits = {name: replaced(inputs.mask("last"), states.double().mean(0).float(), 1)}
    close(torch.tensor(result.values()[0, 0]).float(), by_hand(family, inputs, edits))


def test_means_of_patches_are_over_patches():
    model = model_of("llava")
    inputs, reference = some(model), model.prepare(TEXTS, [picture(s) for s in (5, 6, 7)])
    result = swept(model, inputs, "projector", "mean", reference=reference)
    patches = oracle.read(twin_of("llava"), reference.tensors, wanted=["projector.hook_out"])["projector.hook_out"]
    mean = patches.reshape(-1, patches.shape[-1]).mean(0)
    edits = {"projector.hook_out": lambda x: mean.expand_as(x)}
    close(torch.tensor(result.values()[0]).float(), by_hand("llava", inputs, edits))


def test_resampled_values_are_the_references_own():
    model = model_of("llava")
    inputs, reference = some(model), model.prepare(TEXTS, picture(7))
    name = "blocks.1.hook_attn_out"
    acts = model.capture(reference, name, "all")
    seen = model.capture(inputs, name, "all", ci.Ablate(name, "resample", acts, seed=2)).selected(name)
    pool = acts.selected(name)
    assert all((pool == row).all(-1).any() for row in seen)
    for given in (reference, acts):
        result = swept(model, inputs, "attn", "resample", reference=given, layers=[1], seed=2)
        close(
            torch.tensor(result.values()[0]).float(),
            model.logits(inputs, ci.Ablate(name, "resample", acts, seed=2))[:, 3],
        )
    other = swept(model, inputs, "attn", "resample", reference=acts, layers=[1], seed=3)
    assert not np.allclose(other.values(), result.values())


def test_directions_are_projected_out_layer_by_layer():
    model = model_of("llava")
    inputs, shift = inputs_of(model), vectors(model)
    result = swept(model, inputs, "direction", directions=shift, layers=[-1, 0])
    assert result.axes["layer"] == (0, model.n_layers - 1)
    unit = shift["blocks.0.hook_resid_post"] / shift["blocks.0.hook_resid_post"].norm()
    real = real_of(inputs)[..., None]
    edits = {"blocks.0.hook_resid_post": lambda x: torch.where(real, x - (x @ unit)[..., None] * unit, x)}
    close(torch.tensor(result.values()[0]).float(), by_hand("llava", inputs, edits))
    assert swept(model, inputs, "direction", directions=shift).axes["layer"] == tuple(range(model.n_layers))


def test_blocks_can_only_be_reached_with_an_image_where_they_are_left_out_without():
    model = model_of("mllama")
    text, shown = swept(model, inputs_of(model, kind="text"), "head"), swept(model, some(model), "head")
    assert set(text.axes["layer"]) < set(shown.axes["layer"]) == set(range(model.n_layers))


def test_units_keep_the_rest_to_the_bit():
    model = model_of("llava")
    inputs, name = inputs_of(model), "blocks.1.attn.hook_z"
    clean = model.capture(inputs, name, "all")[name]
    for units in ([0], [0, -1]):
        edited = model.capture(inputs, name, "all", ci.Units(ci.Ablate(name), units))[name]
        others = [head for head in range(model.n_heads) if head not in [unit % model.n_heads for unit in units]]
        same(edited[:, :, others], clean[:, :, others])
        assert (edited[:, :, units][inputs.mask("all")] == 0).all()
    same(model.logits(inputs, ci.Units(ci.Ablate(name), range(model.n_heads))), model.logits(inputs, ci.Ablate(name)))
    assert ci.Units(ci.Ablate(name), 1).units == (1,)
    pattern = "blocks.1.attn.hook_pattern"
    before = model.capture(inputs, pattern, "all")[pattern]
    after = model.capture(inputs, pattern, "all", ci.Units(ci.Ablate(pattern), 2))[pattern]
    same(after[:, :2], before[:, :2])
    assert (after[:, 2].movedim(1, 1)[inputs.mask("all")] == 0).all()


def test_what_cannot_be_ablated_is_refused():
    model = model_of("llava")
    inputs, text = inputs_of(model), inputs_of(model, kind="text")
    with pytest.raises(InputError, match=r"no unit 'block' to ablate: use 'layer', 'attn', .* or 'direction'"):
        swept(model, inputs, "block")
    with pytest.raises(InputError, match="no ablation 'noise': use zero, mean or resample"), unchecked():
        swept(model, inputs, "layer", "noise")
    with pytest.raises(InputError, match="ablation_sweep has no argument 'head': use reference, positions"):
        swept(model, inputs, "head", head=[1])
    for kind in ("mean", "resample"):
        with pytest.raises(InputError, match=f"{kind} ablation needs reference=: prompts"):
            swept(model, inputs, "attn", kind)
        with pytest.raises(InputError, match=f"a reference of 1 prompt: {kind} ablation needs several"):
            swept(model, inputs, "attn", kind, reference=model.prepare("what is a cat ?"))
    alone = model.capture(model.prepare("what is a cat ?"), "blocks.0.hook_attn_out")
    with pytest.raises(InputError, match=r"the reference has 1 token at 'blocks.0.hook_attn_out': resample"):
        swept(model, inputs, "attn", "resample", reference=alone, layers=[0])
    with pytest.raises(HookPointError, match=r"no activations at 'blocks.1.hook_attn_out'.*in the cell layer=1"):
        swept(model, inputs, "attn", "mean", reference=model.capture(inputs, "blocks.0.hook_attn_out"))
    with pytest.raises(InputError, match="unit='direction' projects directions= out of the stream"):
        swept(model, inputs, "direction")
    with pytest.raises(HookPointError, match=r"no layer 9: this model has \d layers"):
        swept(model, inputs, "layer", layers=[9])
    with pytest.raises(HookPointError, match=r"no head 9: this model has 4 heads \(0-3\)"):
        swept(model, inputs, "head", heads=[9])
    with pytest.raises(HookPointError, match=r"no unit 9 at 'blocks.0.attn.hook_z': there are 4 \(0-3\)"):
        model.logits(inputs, ci.Units(ci.Ablate("blocks.0.attn.hook_z"), 9))
    with pytest.raises(InputError, match=r"neurons 'x': \[9999\]; there are \d+ in a layer"):
        swept(model, inputs, "neuron", neurons={"x": [9999]})
    for unit in ("vision_layer", "projector"):
        with pytest.raises(HookPointError, match=r"no hook point .* that prompts without an image reach"):
            swept(model, text, unit)
    with pytest.raises(InputError, match="units is empty: name at least one"):
        ci.Units(ci.Ablate("blocks.0.attn.hook_z"), [])
    with pytest.raises(InputError, match="unit 'a' is no number of a head or neuron"), unchecked():
        ci.Units(ci.Ablate("blocks.0.attn.hook_z"), ["a"])
    with pytest.raises(HookPointError, match=r"layer 3 has no 'attn.hook_z': layers"):
        swept(model_of("mllama"), inputs_of(model_of("mllama"), kind="text"), "head", layers=[3])


def test_without_a_metric_it_is_the_divergence_from_the_clean_model():
    model = model_of("llava")
    result = ci.ablation_sweep(model, inputs_of(model), "mlp", layers=[1])
    assert result.metrics == ("kl_to_clean",)
    assert (result.values() > 0).all()
