"""Variants that run behind one shared prompt equal runs of their own, in every family."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.positions import new
from cmrm_interp.variants import Wants, why_not
from tests.oracles import hooks as oracle
from tests.support import FAMILIES, close, fresh, inputs_of, model_of, same, twin_of, vectors
from tests.variants.mixes import batch_of, check, count_tokens, ends, no_image_tokens, run, some

# Their prompts attend both ways.
BOTH_WAYS = ("paligemma", "paligemma2")
HOOKS = ("blocks.0.hook_resid_post", "blocks.2.hook_attn_out", "ln_final.hook_out")


def windowed(model, acting):
    """Whether an answer moves the window of keys of a pattern that is edited."""
    short = (getattr(model.hf.config.get_text_config(), "sliding_window", None) or 1000) < 20
    return short and any("pattern" in hook for one in acting for hook in getattr(one, "hooks", ()))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_activations_and_answers_of_a_random_mix(family):
    model = no_image_tokens(fresh(family))
    inputs, batch = batch_of(model)
    variants, wants = some(ends(model, inputs), 5, FAMILIES.index(family)), Wants(activations=HOOKS, new_tokens=3)
    before = model.logits(inputs)
    outcomes = run(model, batch, variants, wants)
    same(model.logits(inputs), before)
    check(model, inputs, outcomes, variants, wants)
    expected = ["whole" if family in BOTH_WAYS or windowed(model, acting) else "prefix" for acting in variants]
    assert [outcomes[k].path for k in range(len(variants))] == expected


@pytest.mark.parametrize(
    ("family", "kind"), [("llava", "text"), ("qwen2_vl", "image"), ("mllama", "text"), ("gpt2", "text")]
)
def test_every_variant_alone_and_all_positions(family, kind):
    model = no_image_tokens(fresh(family))
    inputs, batch = batch_of(model, kind)
    variants, wants = ends(model, inputs), Wants(logits="all")
    outcomes = run(model, batch, variants, wants)
    assert {outcome.path for outcome in outcomes.values()} == {"prefix"}
    check(model, inputs, outcomes, variants, wants)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "gpt2"])
def test_equal_to_bare_hooks(family):
    model, bare = model_of(family), twin_of(family)
    batch = batch_of(model)[1]
    v, tensors = vectors(model, scale=2.0), batch.tensors
    outcomes = run(model, batch, [[ci.Subtract(v, 2.0, layers=[layer])] for layer in range(model.n_layers)])
    for layer in range(model.n_layers):
        name = f"blocks.{layer}.hook_resid_post"

        def shifted(x, name=name):
            return torch.cat([x[:, :-1], x[:, -1:] - 2.0 * v[name]], 1)

        with torch.no_grad(), oracle.editing(bare, {name: shifted}, tensors):
            given = tensors | ({"position_ids": positions(batch)} if family == "gpt2" else {})
            expected = bare(**given, use_cache=False).logits[:, -1]
        assert outcomes[layer].path == "prefix"
        close(outcomes[layer].logits, expected)


def positions(batch):
    return (batch.tokens.real.long().cumsum(1) - 1).clamp(min=0)


def test_attention_is_cut_as_in_a_run_of_its_own():
    model = model_of("llava")
    inputs, batch = batch_of(model)
    variants = [[], [ci.Knockout(-1, "image", layers=[1, 2])], [ci.Knockout(-1, slice(None, -1), heads=[0])]]
    wants = Wants(new_tokens=3)
    outcomes = run(model, batch, variants, wants)
    check(model, inputs, outcomes, variants, wants)
    assert {outcome.path for outcome in outcomes.values()} == {"prefix"}
    moved = (outcomes[0].logits - outcomes[1].logits).abs().amax(-1)
    assert moved[batch.has_image].min() > 1e-3
    assert moved[~batch.has_image].max() < 1e-5


def test_what_an_intervention_remembers_is_of_its_own_variant():
    model = model_of("llama")
    inputs, batch = batch_of(model)
    skip, v = ci.Skip(2, positions=-1), vectors(model, scale=2.0)
    variants = [[skip], [ci.Add(v, 2.0, layers=[0]), skip], [ci.Add(v, -2.0, layers=[1]), skip]]
    outcomes = run(model, batch, variants)
    check(model, inputs, outcomes, variants)
    assert {outcome.path for outcome in outcomes.values()} == {"prefix"}


def test_the_prompt_runs_once():
    model = fresh("llava", eager=False)
    batch = batch_of(model)[1]
    width, v = batch.tokens.real.shape[1], vectors(model)
    variants = [[ci.Subtract(v, float(alpha))] for alpha in range(8)] + [[ci.Subtract(v, 1.0, positions=-3)]]
    counts = []
    handle = count_tokens(model.hf.model.language_model.layers[0], counts)
    run(model, batch, variants)
    handle.remove()
    assert counts == [3 * width, 3 * (8 + 3)]


def test_answers_take_one_token_a_variant():
    model = fresh("llama")
    batch = batch_of(model)[1]
    v, counts = vectors(model), []
    handle = count_tokens(model.hf.model.layers[0], counts)
    run(model, batch, [[ci.Subtract(v, float(alpha))] for alpha in range(5)], Wants(logits=None, new_tokens=4))
    handle.remove()
    assert counts == [3 * batch.tokens.real.shape[1], 15, 15, 15, 15]


def test_answers_end_when_generate_ends_them():
    model = fresh("qwen2_vl")
    inputs, batch = batch_of(model)
    v = vectors(model, scale=3.0)
    variants = [[ci.Subtract(v, alpha)] for alpha in (0.0, 1.0, 2.0)] + [[ci.Add(v, 1.0, positions=new())]]
    first = model.generate_tokens(inputs, variants[0], max_new_tokens=6)
    model.hf.generation_config.eos_token_id = [int(first[0, 1]), int(first[1, 3])]
    model.hf.generation_config.pad_token_id = 0
    wants = Wants(new_tokens=6)
    outcomes = run(model, batch, variants, wants)
    check(model, inputs, outcomes, variants, wants)
    assert outcomes[0].answers[0, 2:].eq(0).all()


@pytest.mark.parametrize(
    "how",
    [{"repetition_penalty": 1.7}, {"no_repeat_ngram_size": 1}, {"suppress_tokens": [5, 9, 20]}, {"min_new_tokens": 4}],
)
def test_answers_obey_the_checkpoint_s_own_settings(how):
    model = fresh("llava")
    inputs, batch = batch_of(model)
    v = vectors(model, scale=2.0)
    variants = [[], [ci.Subtract(v, 1.0)], [ci.Add(v, 3.0)]]
    model.hf.generation_config.eos_token_id = int(model.generate_tokens(inputs, max_new_tokens=2)[0, 1])
    model.hf.generation_config.update(**how)
    wants = Wants(logits=None, new_tokens=5)
    check(model, inputs, run(model, batch, variants, wants), variants, wants)


def test_keys_and_values_of_the_prompt_are_not_copied_for_each_variant(monkeypatch):
    model = fresh("llama", eager=False)
    batch = batch_of(model)[1]
    width, v, rows = batch.tokens.real.shape[1], vectors(model), []
    real = torch.nn.functional.scaled_dot_product_attention

    def watched(query, key, *args, **kwargs):
        rows.append((query.shape[0], query.shape[2], key.shape[0], key.shape[2]))
        return real(query, key, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    run(model, batch, [[ci.Subtract(v, float(alpha))] for alpha in range(20)])
    assert set(rows) == {(3, width, 3, width), (3, 20, 3, width + 20)}


def test_when_memory_runs_out_fewer_run_at_a_time():
    model = fresh("llava")
    inputs, batch = batch_of(model)
    v, sizes, width = vectors(model), [], batch.tokens.real.shape[1]

    def small(module, args):
        sizes.append(args[0].shape[1])
        if 3 < args[0].shape[1] < width:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")

    variants = [[ci.Subtract(v, float(alpha))] for alpha in range(10)]
    handle = model.hf.model.language_model.layers[2].mlp.register_forward_pre_hook(small)
    outcomes = run(model, batch, variants)
    handle.remove()
    assert sizes == [width, 10, 5, 2, 2, 2, 2, 2]
    check(model, inputs, outcomes, variants)


def test_another_error_is_not_taken_for_a_lack_of_memory():
    model = model_of("llava")
    batch = batch_of(model)[1]

    def fail(x):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(model, batch, [[], [ci.Gate(fail, ci.Subtract(vectors(model)))]])


def test_why_a_variant_runs_by_itself():
    model, both_ways = model_of("llava"), model_of("paligemma")
    batch = batch_of(model)[1]
    v = vectors(model)

    def why(*acting):
        return why_not(model.network, model.encoder, batch, list(acting))

    assert why() is None
    assert why(ci.Subtract(v)) is None
    assert "is given the activations of all tokens" in why(ci.Hook("blocks.0.hook_resid_post", lambda x, hook: x))
    assert "begin at or before an image's tokens" in why(ci.Subtract(v, positions="all"))
    assert "lies on the image's side" in why(ci.Ablate("projector.hook_out"))
    other = both_ways.prepare(["what is in the picture ?"], [None]).batch(slice(0, 1))
    assert "may see later ones in models of the family 'paligemma'" in why_not(
        both_ways.network, both_ways.encoder, other, []
    )
    texts = inputs_of(model, kind="text").batch(slice(0, 3))
    assert "most of the prompt" in why_not(model.network, model.encoder, texts, [ci.Subtract(v, positions="all")])
    assert why_not(model.network, model.encoder, texts, [ci.Subtract(v, positions="all")], Wants(new_tokens=2)) is None


def test_attention_that_takes_no_mask(monkeypatch):
    model = model_of("llava")
    batch = batch_of(model)[1]
    monkeypatch.setattr(model.hf.config.get_text_config(), "_attn_implementation_internal", "flash_attention_2")
    assert "load the model with attn_implementation='sdpa'" in why_not(model.network, model.encoder, batch, [])


def test_activations_of_images_are_refused():
    model = model_of("llava")
    with pytest.raises(HookPointError, match=r"'projector.hook_out' holds pieces of images"):
        run(model, batch_of(model)[1], [[], []], Wants(activations=("ln_final.hook_out", "projector.hook_out")))


def test_padding_on_the_right_is_refused():
    model = model_of("llava")
    batch = inputs_of(model, "right").batch(slice(0, 3))
    with pytest.raises(InputError, match=r"use inputs\.left_padded\(\)"):
        run(model, batch, [[], []])
