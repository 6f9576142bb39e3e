"""Linear maps of the activation, additions that keep the norm, one vector a token: against bare hooks."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, MismatchError
from cmrm_interp.interventions import Chosen
from tests.oracles import hooks as oracle
from tests.support import LAWFUL, STREAM, close, inputs_of, model_of, picture, quiet, same, twin_of, vectors

POST1 = "blocks.1.hook_resid_post"


def maps_of(model, points=STREAM, seed=0):
    generator, d = torch.Generator().manual_seed(seed), model.d_model
    names = ci.hooks.expand(points, model.hook_points)
    return {name: torch.randn(d, d, generator=generator) / d**0.5 for name in names}


def at_last(inputs, edit):
    return lambda x: torch.where(inputs.mask("last")[..., None], edit(x), x)


def turned(x, v, step):
    """VTI's formula, written out; states of length zero (closed gates of Mllama) stay."""
    u = x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12) + step * v
    return u / u.norm(dim=-1, keepdim=True) * x.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("family", LAWFUL)
def test_a_linear_map_is_added_to_the_last_token_of_every_block(family):
    model = model_of(family)
    inputs, maps = inputs_of(model), maps_of(model)
    got = model.logits(inputs, ci.AddLinearMap(maps, 0.6), positions="all")

    def edit(name):
        return at_last(inputs, lambda x: x + 0.6 * x @ maps[name].T)

    close(got, oracle.logits(twin_of(family), inputs.tensors, {name: edit(name) for name in maps}), slack=4)


@pytest.mark.parametrize("family", LAWFUL)
def test_a_turn_of_every_mlps_output_at_every_token(family):
    model = model_of(family)
    inputs, v = inputs_of(model), vectors(model, "blocks.*.hook_mlp_out").unit()
    got = model.logits(inputs, ci.AddKeepingNorm(v, 0.3, "all"), positions="all")
    edits = {name: lambda x, name=name: turned(x, v[name], 0.3) for name in v}
    wanted = oracle.logits(twin_of(family), inputs.tensors, edits)
    real = inputs.mask("all")
    close(got[real], wanted[real], slack=4)


def test_the_norm_is_kept_and_the_direction_comes_nearer():
    x, v = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), torch.ones(8) / 8**0.5
    turn = ci.AddKeepingNorm(ci.Directions({POST1: v}), 0.5)
    chosen = Chosen(POST1, torch.arange(5), torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.bool))
    new = turn.edit(x, chosen)
    torch.testing.assert_close(new.norm(dim=-1), x.norm(dim=-1))
    assert (new @ v > x @ v).all()
    same(turn.edit(0 * x, chosen), 0 * x)
    assert turn.edit(x.bfloat16(), chosen).dtype == torch.float32


@pytest.mark.parametrize("family", LAWFUL)
def test_zero_strength_is_nothing_to_the_bit(family):
    model = model_of(family)
    inputs = inputs_of(model)
    logits, tokens = model.logits(inputs), model.generate_tokens(inputs, max_new_tokens=3, **quiet(model))
    for nothing in (ci.AddLinearMap(maps_of(model), 0.0, "all"), ci.AddKeepingNorm(vectors(model), 0.0, "all")):
        same(model.logits(inputs, nothing), logits)
        same(model.generate_tokens(inputs, nothing, 3, **quiet(model)), tokens)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "llama"])
@pytest.mark.parametrize("steps", ["last", -1])
def test_generation_with_the_cache(family, steps):
    model = model_of(family)
    inputs, maps, v = inputs_of(model), maps_of(model), vectors(model).unit()
    both = [ci.AddLinearMap(maps, 0.8, steps), ci.AddKeepingNorm(v, 0.9, steps)]
    assert all(one.by_token for one in both)

    def edit(name):
        calls = []

        def at_the_end(x):
            calls.append(1)
            x = x.clone()
            if steps == "last" or len(calls) == 1:
                x[:, -1] = turned(x[:, -1] + 0.8 * x[:, -1] @ maps[name].T, v[name], 0.9)
            return x

        return at_the_end

    wanted, _, _ = oracle.generate(twin_of(family), inputs.tensors, 4, {n: edit(n) for n in maps}, **quiet(model))
    got = model.generate_tokens(inputs, both, max_new_tokens=4, **quiet(model)).tolist()
    assert got == wanted.tolist() != model.generate_tokens(inputs, max_new_tokens=4, **quiet(model)).tolist()


def test_one_vector_for_each_patch_of_an_image():
    model = model_of("llava")
    inputs, hook = inputs_of(model, kind="image"), "vision.blocks.1.hook_mlp_out"
    acts = model.capture(inputs, hook)[hook]
    v = torch.randn(acts.shape[1:], generator=torch.Generator().manual_seed(1))
    moved = ci.Add(ci.Directions({hook: v}, rows="tokens"), 0.7, "all")
    torch.testing.assert_close(model.capture(inputs, hook, interventions=moved)[hook], acts + 0.7 * v)
    fewer = ci.Add(ci.Directions({hook: v[:-1]}, rows="tokens"), positions="all")
    with pytest.raises(MismatchError, match=rf"directions for {len(v) - 1} tokens, but .* has {len(v)}: images of"):
        model.logits(inputs, fewer)
    more = ci.Add(ci.Directions({hook: torch.cat([v, v])}, rows="tokens"), positions="all")
    with pytest.raises(MismatchError, match=rf"directions for {2 * len(v)} tokens, but .* has {len(v)}"):
        model.logits(inputs, more)


def test_one_vector_for_each_token_of_rows_of_unequal_length_is_refused():
    model = model_of("llava")
    v = torch.randn(9, model.d_model)
    with pytest.raises(MismatchError, match="directions for 9 tokens"):
        model.logits(inputs_of(model), ci.Add(ci.Directions({POST1: v}, rows="tokens"), positions="all"))
    pictures = model.prepare(["what is it ?", "a cat or a dog ?"], [picture(0), picture(1)])
    seen = model.capture(pictures, POST1, "image")
    v = torch.randn(seen[POST1].shape[1], model.d_model)
    moved = ci.Add(ci.Directions({POST1: v}, rows="tokens"), positions="image")
    torch.testing.assert_close(model.capture(pictures, POST1, "image", moved)[POST1], seen[POST1] + v)


def test_what_cannot_be_is_refused():
    model = model_of("llava")
    d = model.d_model
    for act, error, words in (
        (lambda: ci.AddLinearMap({}), InputError, "needs at least one map"),
        (lambda: ci.AddLinearMap({POST1: torch.eye(d)}, float("nan")), InputError, "alpha is nan"),
        (lambda: ci.AddLinearMap({POST1: torch.ones(d)}), InputError, r"has shape \(32,\): give d_model x d_model"),
        (lambda: ci.AddLinearMap({POST1: torch.full((d, d), float("inf"))}), InputError, "NaN or infinite"),
        (lambda: ci.AddLinearMap({POST1: torch.eye(d)}, positions="lats"), HookPointError, "no position 'lats'"),
        (lambda: ci.AddKeepingNorm(vectors(model), float("inf")), InputError, "alpha is inf"),
        (lambda: ci.ProjectOut(ci.Directions({POST1: torch.ones(2, d)}, rows="tokens")), InputError, "a row or token"),
    ):
        with pytest.raises(error, match=words):
            act()
    with pytest.raises(MismatchError, match=r"shape \(5,\) does not fit \(32,\) at 'blocks.1.hook_resid_post'"):
        model.logits(inputs_of(model), ci.AddLinearMap({POST1: torch.eye(5)}))
    with pytest.raises(HookPointError, match="nothing to do at layers"):
        model.logits(inputs_of(model), ci.AddLinearMap({POST1: torch.eye(d)}, layers=[2]))
