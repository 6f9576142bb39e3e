"""Variants that start from the first module they change equal runs of their own, in every family."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.variants import Wants, run_variants
from tests.oracles import hooks as oracle
from tests.support import FAMILIES, close, fresh, model_of, same, twin_of, vectors
from tests.variants.mixes import above, batch_of, check, count_tokens, run, some

HOOKS = ("blocks.0.hook_resid_post", "blocks.2.hook_attn_out", "ln_final.hook_out")
# Nothing comes before the first block of the tower, or of a decoder without one.
FIRST = ("vision.blocks.0.hook_mlp_out", "hook_embed")


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_activations_of_a_random_mix(family):
    model = fresh(family)
    inputs, batch = batch_of(model)
    variants, wants = some(above(model, inputs), 6, FAMILIES.index(family)), Wants(activations=HOOKS)
    before = model.logits(inputs)
    outcomes = run(model, batch, variants, wants)
    same(model.logits(inputs), before)
    check(model, inputs, outcomes, variants, wants)
    for number, acting in enumerate(variants[:-1]):
        first = getattr(acting[0], "hooks", ("",))[0]
        whole = first == FIRST[0] or (first == FIRST[1] and model.family.vision is None)
        assert outcomes[number].path == ("whole" if whole else "resumed"), acting


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma4", "mllama", "opt"])
def test_logits_of_all_positions(family):
    model = model_of(family)
    inputs, batch = batch_of(model)
    variants, wants = above(model, inputs), Wants(logits="all")
    check(model, inputs, run(model, batch, variants, wants), variants, wants)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "gpt2"])
def test_equal_to_bare_hooks(family):
    model, bare = model_of(family), twin_of(family)
    batch = batch_of(model)[1]
    names = [f"blocks.{layer}.hook_mlp_out" for layer in range(model.n_layers)]
    outcomes = run(model, batch, [[ci.Ablate(name)] for name in names])
    real = batch.tokens.real
    given = batch.tensors | ({"position_ids": (real.long().cumsum(1) - 1).clamp(min=0)} if family == "gpt2" else {})
    for number, name in enumerate(names):
        with torch.no_grad(), oracle.editing(bare, {name: torch.zeros_like}, batch.tensors):
            expected = bare(**given, use_cache=False).logits[:, -1]
        close(outcomes[number].logits, expected)


@pytest.mark.parametrize("make", [lambda n: ci.Ablate(f"blocks.{n}.hook_resid_post"), ci.Skip])
def test_what_comes_before_the_first_edit_runs_once(make):
    model = fresh("llava")
    batch = batch_of(model)[1]
    n, counts = model.n_layers, [[] for _ in range(model.n_layers)]
    handles = [count_tokens(model.hf.model.language_model.layers[layer].mlp, counts[layer]) for layer in range(n)]
    handles.append(count_tokens(model.hf.model.vision_tower.encoder.layers[0].mlp, seen := []))
    outcomes = run(model, batch, [[make(layer)] for layer in range(n)])
    for handle in handles:
        handle.remove()
    assert {outcome.path for outcome in outcomes.values()} == {"resumed"}
    # Block l runs in the clean pass, and once for each variant that changes a block before it.
    assert [len(tokens) for tokens in counts] == [1 + layer for layer in range(n)]
    assert len(seen) == 1


@pytest.mark.parametrize(("part", "extra"), [("attn_out", (0, 1)), ("resid_mid", (0, 1)), ("mlp_out", (0, 0))])
def test_attention_and_mlp_before_the_first_edit_run_once(part, extra):
    model = fresh("qwen2")
    batch = batch_of(model)[1]
    attention, mlp = [[[] for _ in range(model.n_layers)] for _ in range(2)]
    handles = []
    for number, block in enumerate(model.hf.model.layers):
        handles += [
            count_tokens(block.self_attn.o_proj, attention[number]),
            count_tokens(block.mlp.up_proj, mlp[number]),
        ]
    run(model, batch, [[ci.Ablate(f"blocks.{layer}.hook_{part}")] for layer in range(model.n_layers)])
    for handle in handles:
        handle.remove()
    assert [len(calls) for calls in attention] == [1 + layer + extra[0] for layer in range(model.n_layers)]
    assert [len(calls) for calls in mlp] == [1 + layer + extra[1] for layer in range(model.n_layers)]


def test_vision_blocks_below_the_first_edit_run_once():
    model = fresh("llava")
    batch = batch_of(model)[1]
    counts, blocks = [], model.hf.model.vision_tower.encoder.layers
    handle = count_tokens(blocks[0].mlp, counts)
    variants = [[ci.Ablate("vision.blocks.1.hook_resid_post")], [ci.Ablate("projector.hook_out")]] * 4
    outcomes = run(model, batch, variants)
    handle.remove()
    assert {outcome.path for outcome in outcomes.values()} == {"resumed"}
    assert len(counts) == 1


def test_modules_that_write_into_what_they_were_given_do_not_spoil_it():
    model = model_of("qwen3_vl")
    inputs, batch = batch_of(model)
    variants = [[ci.Hook(f"blocks.{layer}.hook_resid_post", lambda x, hook: x.mul_(0.5))] for layer in (2, 1, 0, 2, 1)]
    check(model, inputs, run(model, batch, variants), variants)


def test_few_variants_are_not_worth_a_clean_pass():
    model = model_of("gpt2")
    batch = batch_of(model)[1]
    variants = [[ci.Ablate(f"blocks.{layer}.hook_mlp_out")] for layer in (0, 1)]
    assert {outcome.path for outcome in run(model, batch, variants).values()} == {"whole"}
    assert {outcome.path for outcome in run(model, batch, [[]]).values()} == {"whole"}


def test_both_ways_share_one_clean_pass():
    model = fresh("llava")
    inputs, batch = batch_of(model)
    v, counts = vectors(model), []
    handle = count_tokens(model.hf.model.language_model.layers[0], counts)
    variants = [[ci.Subtract(v, 1.0)], [ci.Ablate("blocks.2.hook_resid_post")], []]
    outcomes = run(model, batch, variants)
    handle.remove()
    assert [outcomes[k].path for k in range(3)] == ["prefix", "resumed", "prefix"]
    # The clean pass and the two tails; nnsight hands a skipped block its input, so it is counted too.
    assert len(counts) == 3
    check(model, inputs, outcomes, variants)


def test_activations_alone():
    model = model_of("llava")
    inputs, batch = batch_of(model)
    wants = Wants(logits=None, activations=HOOKS)
    variants = [[ci.Ablate(f"blocks.{layer}.hook_resid_post")] for layer in range(model.n_layers)]
    outcomes = run(model, batch, variants, wants)
    assert all(outcome.logits is None for outcome in outcomes.values())
    check(model, inputs, outcomes, variants, wants)


def test_outcomes_come_as_they_are_done():
    model = model_of("llava")
    inputs, batch = batch_of(model)
    variants = [[ci.Ablate(f"blocks.{layer}.hook_resid_post")] for layer in range(4)]
    coming = run_variants(model.network, model.encoder, batch, variants, Wants())
    first = next(coming)
    close(first.logits, model.logits(inputs, variants[first.variant]))
    coming.close()
    same(model.logits(inputs), model.logits(inputs))
