"""Laws of every intervention on every family, and each one against bare torch hooks."""

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import MismatchError
from tests.oracles import hooks as oracle
from tests.support import (
    LAWFUL,
    SIDES,
    STREAM,
    TEXTS,
    VISION,
    close,
    fresh,
    inputs_of,
    model_of,
    picture,
    quiet,
    reachable,
    same,
    twin_of,
    vectors,
)

POST1 = "blocks.1.hook_resid_post"
STREAM_POINTS = (".hook_resid_pre", ".hook_resid_mid", ".hook_attn_out", ".hook_resid_post")


def stream_of(model):
    """Points of the stream; blocks whose attention and MLP stand side by side have no middle."""
    return [n for n in model.hook_points if n.startswith("blocks.") and n.endswith(STREAM_POINTS)]


def everywhere(model):
    """Directions at every point of the language model that has one shape for every prompt."""
    names = [n for n in reachable(model, "text") if not n.endswith(("hook_pattern", "hook_attn_scores"))]
    acts = model.capture(inputs_of(model, kind="text"), names)
    return ci.Directions({name: torch.ones_like(acts[name][0]) for name in names}, rows="one")


def acts_of(model, hooks=STREAM, positions="last", seed=0):
    """Activations of three other prompts; with an image where blocks are left out without."""
    texts = [["red green blue", "what is a cat", "you"], ["yes no", "how do i make a cake ?", "one two three"]][seed]
    return model.capture(model.prepare(texts, picture(5) if model.family.name == "mllama" else None), hooks, positions)


@pytest.mark.parametrize("family", LAWFUL)
def test_zero_strength_is_nothing_to_the_bit(family):
    model = model_of(family)
    inputs = inputs_of(model)
    logits = model.logits(inputs, positions="all")
    tokens, acts = model.generate_tokens(inputs, max_new_tokens=3, **quiet(model)), model.capture(inputs, STREAM, "all")
    for kind, directions in (
        (ci.Add, everywhere(model)), (ci.Subtract, vectors(model)), (ci.ProjectOut, vectors(model, stream_of(model)))
    ):  # fmt: skip
        nothing = kind(directions, alpha=0.0, positions="all")
        same(model.logits(inputs, nothing, positions="all"), logits)
        same(model.generate_tokens(inputs, nothing, 3, **quiet(model)), tokens)
        assert model.capture(inputs, STREAM, "all", nothing) == acts


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", LAWFUL)
def test_subtracting_at_the_last_position_of_every_block_live(family, side):
    model = model_of(family)
    inputs, shift = inputs_of(model, side), vectors(model, scale=0.3)
    got = model.logits(inputs, ci.Subtract(shift, alpha=0.7), positions="all")
    last = inputs.mask("last")

    def subtract(name):
        return lambda x: torch.where(last[..., None], x - 0.7 * shift[name], x)

    close(got, oracle.logits(twin_of(family), inputs.tensors, {name: subtract(name) for name in shift}))


@pytest.mark.parametrize("steps", ["all", "prefill"])
@pytest.mark.parametrize("family", LAWFUL)
def test_subtracting_in_generation_with_the_cache(family, steps):
    model = model_of(family)
    inputs, shift = inputs_of(model), vectors(model, scale=3.0)

    def subtract(name):
        calls = []

        def edit(x):
            calls.append(1)
            x = x.clone()
            if steps == "all" or len(calls) == 1:
                x[:, -1] -= 0.9 * shift[name]
            return x

        return edit

    subtracting = ci.Subtract(shift, alpha=0.9, positions="last" if steps == "all" else -1)
    edits, how = {name: subtract(name) for name in shift}, quiet(model)
    wanted, _, _ = oracle.generate(twin_of(family), inputs.tensors, 4, edits, **how)
    got = model.generate_tokens(inputs, subtracting, max_new_tokens=4, **how).tolist()
    assert got == wanted.tolist() != model.generate_tokens(inputs, max_new_tokens=4, **how).tolist()


@pytest.mark.parametrize("family", LAWFUL)
def test_prefill_and_every_step_differ(family):
    model = model_of(family)
    inputs, shift, how = inputs_of(model), vectors(model, scale=3.0), quiet(model)
    runs = [
        model.generate_tokens(inputs, ci.Subtract(shift, positions=p), 6, **how).tolist()
        for p in (-1, "last", "generated")
    ]
    assert runs[0] != runs[1]
    assert [row[0] for row in runs[0]] == [row[0] for row in runs[1]]
    assert [row[0] for row in runs[2]] == model.generate_tokens(inputs, max_new_tokens=1, **how)[:, 0].tolist()


def grown(tensors, token, family):
    """The tensors of a prompt that has grown by a token."""
    shape, out = tensors["input_ids"].shape, dict(tensors)
    for name, tensor in tensors.items():
        if tensor.shape == shape and name not in ("input_ids", "qformer_input_ids", "qformer_attention_mask"):
            # In PaliGemma 1 is a token that is seen by later ones alone, elsewhere it is an image.
            kind = 1 if name == "attention_mask" or family.startswith("paligemma") else 0
            out[name] = torch.cat([tensor, torch.full_like(token, kind)], 1)
    if "cross_attention_mask" in tensors:
        mask = tensors["cross_attention_mask"]
        out["cross_attention_mask"] = torch.cat([mask, mask[:, -1:]], 1)
    return {**out, "input_ids": torch.cat([tensors["input_ids"], token], 1)}


@pytest.mark.parametrize("family", LAWFUL)
def test_steps_with_the_cache_are_those_without_it(family):
    model, how = model_of(family), quiet(model_of(family))
    shift, banned = vectors(model, scale=0.3), how.get("suppress_tokens", [])
    for kind, positions in (("text", "last"), ("text", "all"), ("image", "last"), ("image", -1), ("image", "prompt")):
        if kind == "image" and family not in VISION:
            continue
        inputs = inputs_of(model, kind=kind)
        with_cache = model.generate_tokens(inputs, ci.Subtract(shift, positions=positions), 3, **how)
        tensors, edited = dict(inputs.tensors), inputs.mask(positions)
        for step in range(3):

            def subtract(name, edited=edited):
                return lambda x: torch.where(edited[..., None], x - shift[name], x)

            # Tokens that were edited when they were new stay edited in the keys and values.
            logits = oracle.logits(twin_of(family), tensors, {name: subtract(name) for name in shift})[:, -1]
            logits[:, banned] = -torch.inf
            token = logits.argmax(-1, keepdim=True)
            assert token[:, 0].tolist() == with_cache[:, step].tolist(), (kind, positions, step)
            more = torch.full_like(token, positions in ("last", "all"), dtype=torch.bool)
            tensors, edited = grown(tensors, token, family), torch.cat([edited, more], 1)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", LAWFUL)
def test_projecting_out_at_all_positions(family, side):
    model = model_of(family)
    inputs, v = inputs_of(model, side), vectors(model, stream_of(model))

    def reject(name):
        unit = v[name] / v[name].norm()
        return lambda x: x - (x @ unit)[..., None] * unit

    wanted = oracle.logits(twin_of(family), inputs.tensors, {name: reject(name) for name in v})
    real = inputs.mask("all")
    close(model.logits(inputs, ci.ProjectOut(v), positions="all")[real], wanted[real])


def test_projecting_a_subspace_out():
    model, (a, b) = model_of("llama"), torch.randn(2, 32, generator=torch.Generator().manual_seed(3))
    inputs = inputs_of(model)
    skewed = ci.Directions({POST1: torch.stack([a, a + 0.01 * b])})
    acts = model.capture(inputs, POST1, "all", ci.ProjectOut(skewed))
    for v in (a, b):
        assert float((acts.selected(POST1) @ v).abs().max()) < 2e-3
    one_by_one = b - (b @ a) / (a @ a) * a
    chain = [ci.ProjectOut(ci.Directions({POST1: v})) for v in (a, one_by_one)]
    torch.testing.assert_close(acts[POST1], model.capture(inputs, POST1, "all", chain)[POST1], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_projecting_out_by_parts(alpha):
    model = model_of("llama")
    inputs, v = inputs_of(model), vectors(model, POST1)
    plain, edited = (model.capture(inputs, POST1, "all", acting) for acting in ((), ci.ProjectOut(v, alpha)))
    close(edited.selected(POST1) @ v[POST1], (1 - alpha) * (plain.selected(POST1) @ v[POST1]))
    close(ci.reject(edited.selected(POST1), v), ci.reject(plain.selected(POST1), v))


@pytest.mark.parametrize("family", LAWFUL)
def test_ablation_is_idempotent(family):
    model, hooks = model_of(family), "blocks.*.hook_attn_out"
    inputs = inputs_of(model)
    for once in (
        ci.Ablate(hooks), ci.Ablate(hooks, "mean", acts_of(model, hooks)), ci.ProjectOut(vectors(model, hooks))
    ):  # fmt: skip
        close(model.logits(inputs, [once, once]), model.logits(inputs, once))


@pytest.mark.parametrize("kind", ["zero", "mean"])
@pytest.mark.parametrize("family", LAWFUL)
def test_zero_and_mean_ablation(family, kind):
    model = model_of(family)
    inputs = inputs_of(model)
    for name in ("hook_attn_out", "hook_mlp_out", "attn.hook_z", "mlp.hook_post"):
        hooks = f"blocks.*.{name}"
        reference = acts_of(model, hooks, "all")
        means = {hook: reference.selected(hook).mean(0) if kind == "mean" else 0 for hook in reference}
        edits = {hook: lambda x, mean=means[hook]: torch.zeros_like(x) + mean for hook in reference}
        wanted = oracle.logits(twin_of(family), inputs.tensors, edits)[:, -1]
        close(model.logits(inputs, ci.Ablate(list(reference), kind, reference)), wanted)


def test_a_mean_leaves_padding_out():
    model = model_of("llama")
    reference = acts_of(model, POST1, "all")
    alone = torch.cat(
        [
            model.capture(model.prepare(text), POST1, "all")[POST1][0]
            for text in ("red green blue", "what is a cat", "you")
        ]
    )
    got = model.capture(inputs_of(model), POST1, interventions=ci.Ablate(POST1, "mean", reference))[POST1]
    close(got, alone.mean(0).expand_as(got))


@pytest.mark.parametrize("family", LAWFUL)
def test_resampling_draws_rows_of_the_reference_whatever_the_batch(family):
    model = model_of(family)
    reference, inputs = acts_of(model, POST1), inputs_of(model)
    ablate = ci.Ablate(POST1, "resample", reference, seed=3)
    together = model.capture(inputs, POST1, "all", ablate)
    assert all((row == reference[POST1]).all(-1).any() for row in together.selected(POST1))
    close(model.logits(inputs, ablate, batch_size=1), model.logits(inputs, ablate))
    close(model.logits(inputs, ablate, batch_size=2), model.logits(inputs, ablate))
    same(model.logits(inputs, ablate), model.logits(inputs, ablate))
    other = model.capture(inputs, POST1, "all", ci.Ablate(POST1, "resample", reference, seed=4))
    assert not torch.equal(other[POST1], together[POST1])


def test_resampling_uses_all_of_the_reference():
    model = model_of("llama")
    reference = acts_of(model, POST1)
    inputs = model.prepare(TEXTS * 10)
    drawn = model.capture(inputs, POST1, "last", ci.Ablate(POST1, "resample", reference, positions="last"))[POST1]
    counts = [(drawn == row).all(-1).sum().item() for row in reference[POST1]]
    assert sum(counts) == 30
    assert min(counts) >= 3


@pytest.mark.parametrize("family", LAWFUL)
def test_patching_a_run_with_itself_changes_nothing_to_the_bit(family):
    model = model_of(family)
    inputs = inputs_of(model, kind="image")
    tokens = [n for n in model.hook_points if not model.network.points[n].is_vision]
    logits = model.logits(inputs, positions="all")
    for positions in ("all", "last", "image", slice(1, 4)):
        acts = model.capture(inputs, tokens, positions)
        same(model.logits(inputs, ci.Patch(acts), positions="all"), logits)


# Their towers have several rows an image, and a patch has one row a prompt.
CROPS = ("llava_next", "llava_onevision", "internvl", "idefics3", "aya_vision")


@pytest.mark.parametrize("family", [f for f in LAWFUL if f in VISION and f not in CROPS])
def test_patching_the_vision_side_with_itself_changes_nothing_to_the_bit(family):
    model = model_of(family)
    inputs = inputs_of(model, kind="image")
    acts = model.capture(inputs, [n for n in model.hook_points if model.network.points[n].is_vision], "all")
    same(model.logits(inputs, ci.Patch(acts)), model.logits(inputs))


@pytest.mark.parametrize("family", CROPS)
def test_patching_crops_is_refused(family):
    model = model_of(family)
    inputs = inputs_of(model, kind="image")
    acts = model.capture(inputs, "vision.blocks.0.hook_resid_post", "all")
    with pytest.raises(MismatchError, match=r"tokens to patch, \d+ were captured"):
        model.logits(inputs, ci.Patch(acts))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", LAWFUL)
def test_patching_the_last_block_gives_the_other_runs_logits(family, side):
    model = model_of(family)
    here, there = inputs_of(model, side), model.prepare(["red", "tell me about cats", "what"], padding_side=side)
    last = f"blocks.{model.n_layers - 1}.hook_resid_post"
    close(model.logits(here, ci.Patch(model.capture(there, last))), model.logits(there))


@pytest.mark.parametrize("family", LAWFUL)
def test_patching_against_hooks(family):
    model = model_of(family)
    inputs, acts = inputs_of(model), acts_of(model, ["blocks.1.hook_mlp_out", "blocks.2.attn.hook_z"])

    def patch(name):
        def edit(x):
            x = x.clone()
            x[:, -1] = acts[name]
            return x

        return edit

    wanted = oracle.logits(twin_of(family), inputs.tensors, {name: patch(name) for name in acts})[:, -1]
    close(model.logits(inputs, ci.Patch(acts)), wanted)


def test_patching_at_chosen_layers_only():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    acts = acts_of(model)
    only = model.capture(inputs, STREAM, interventions=ci.Patch(acts, layers=[-2]))
    same(only["blocks.2.hook_resid_post"], acts["blocks.2.hook_resid_post"])
    same(only["blocks.1.hook_resid_post"], model.capture(inputs, STREAM)["blocks.1.hook_resid_post"])


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "mllama", "llama"])
def test_one_vector_a_row_goes_to_its_row_whatever_the_batch(family, batch_size):
    model, inputs = model_of(family), inputs_of(model_of(family))
    each = ci.Directions(
        {POST1: torch.randn(3, model.d_model, generator=torch.Generator().manual_seed(5))}, rows="batch"
    )
    plain, edited = model.capture(inputs, POST1), model.capture(inputs, POST1, "last", ci.Add(each, 2.0), batch_size)
    close(edited[POST1] - plain[POST1], 2 * each[POST1])
    patched = model.capture(inputs, POST1, interventions=ci.Patch(acts_of(model, POST1)), batch_size=batch_size)
    same(patched[POST1], acts_of(model, POST1)[POST1])


@pytest.mark.parametrize("family", LAWFUL)
def test_rows_are_independent(family):
    model = model_of(family)
    inputs = inputs_of(model)
    each = torch.zeros(3, model.d_model)
    each[1] = torch.linspace(-5, 5, model.d_model)
    edited = model.logits(inputs, ci.Add(ci.Directions({POST1: each}, rows="batch"), positions="all"))
    plain = model.logits(inputs)
    # Tokens that go to one expert are run together, whichever rows they are of.
    (close if family.endswith("moe") else same)(edited[[0, 2]], plain[[0, 2]])
    assert not torch.allclose(edited[1], plain[1], atol=1e-2)


def test_add_and_subtract_are_opposites():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    v = vectors(model)
    same(model.logits(inputs, ci.Add(v, -1.5)), model.logits(inputs, ci.Subtract(v, 1.5)))
    close(model.logits(inputs, [ci.Add(v, 3.0), ci.Subtract(v, 3.0)]), model.logits(inputs))
    assert not torch.allclose(model.logits(inputs, ci.Add(v)), model.logits(inputs, ci.Subtract(v)), atol=1e-2)


def test_interventions_act_in_the_order_given():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    double = ci.Hook(POST1, lambda x, _: 2 * x)
    add = ci.Add(vectors(model, POST1), positions="all")
    plain = model.capture(inputs, POST1)[POST1]
    v = vectors(model, POST1)[POST1]
    close(model.capture(inputs, POST1, interventions=[double, add])[POST1], 2 * plain + v)
    close(model.capture(inputs, POST1, interventions=[add, double])[POST1], 2 * (plain + v))


@pytest.mark.parametrize("family", LAWFUL)
def test_a_negative_layer_is_its_positive_twin(family):
    model, inputs = model_of(family), inputs_of(model_of(family))
    v = vectors(model)
    for negative in (-model.n_layers, -1):
        layer = negative + model.n_layers
        for kind in (ci.Add, ci.ProjectOut):
            same(model.logits(inputs, kind(v, layers=[negative])), model.logits(inputs, kind(v, layers=[layer])))
        only = ci.Directions({f"blocks.{layer}.hook_resid_post": v[f"blocks.{layer}.hook_resid_post"]})
        same(model.logits(inputs, ci.Add(only)), model.logits(inputs, ci.Add(v, layers=[layer])))


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (None, 0.0), (0.2, None), (1.5, 1.5)])
def test_clamp_by_hand(low, high):
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    for sign in (1.0, -1.0):
        v = vectors(model, POST1, scale=sign * 3.0)
        unit = v[POST1] / v[POST1].norm()
        x = model.capture(inputs, POST1, "all").selected(POST1)
        got = model.capture(inputs, POST1, "all", ci.Clamp(v, low, high)).selected(POST1)
        wanted = np.clip((x @ unit).numpy(), low, high)
        close(got @ unit, torch.from_numpy(wanted))
        close(got - torch.outer(got @ unit, unit), x - torch.outer(x @ unit, unit))


def test_clamping_within_the_bounds_changes_nothing():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    same(model.logits(inputs, ci.Clamp(vectors(model), -1e6, 1e6)), model.logits(inputs))


def test_bf16_models_are_edited_in_their_own_dtype():
    model = fresh("llama")
    model.hf.to(torch.bfloat16)
    inputs, v = inputs_of(model), vectors(model)
    assert model.logits(inputs, ci.Subtract(v)).dtype == torch.bfloat16
    same(model.logits(inputs, ci.Subtract(v, 0.0)), model.logits(inputs))
    edited = model.capture(inputs, POST1, interventions=ci.Subtract(v, layers=[1]))[POST1]
    plain = model.capture(inputs, POST1)[POST1]
    same(edited, (plain.float() - v[POST1]).bfloat16())
