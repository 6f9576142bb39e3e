"""How a model is run: what comes out of hooks, what is left behind, where calls may come from."""

import threading

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import MismatchError, ModelError
from tests.support import LAWFUL, STREAM, TEXTS, close, fresh, inputs_of, model_of, picture, same


@pytest.mark.parametrize("family", LAWFUL)
def test_a_hook_that_changes_nothing_changes_no_bit(family):
    model, inputs = model_of(family), inputs_of(model_of(family))
    idle = ci.Hook(model.hook_points, lambda x, name: None)
    same(model.logits(inputs, idle, positions="all"), model.logits(inputs, positions="all"))
    same(model.logits(inputs, ci.Hook(model.hook_points, lambda x, _: x.clone())), model.logits(inputs))
    same(model.generate_tokens(inputs, idle, 5), model.generate_tokens(inputs, max_new_tokens=5))


def test_a_pattern_needs_eager_attention():
    model = fresh("llama", eager=False)
    inputs = inputs_of(model)
    words = r"'blocks.0.attn.hook_pattern' needs attention weights.*'sdpa'.*attn_implementation='eager'"
    with pytest.raises(ModelError, match=words):
        model.capture(inputs, "blocks.0.attn.hook_pattern")
    with pytest.raises(ModelError, match=words):
        model.generate_tokens(inputs, ci.Ablate("blocks.0.attn.hook_pattern"))
    model.capture(inputs, [n for n in model.hook_points if not n.endswith(("hook_pattern", "hook_attn_scores"))])


# What is left behind.


def _state(model):
    hf = model.hf
    left = {name: value for name, value in vars(getattr(hf, "model", hf)).items() if not name.startswith("_")}
    weights = [p.clone() for p in hf.parameters()] + [b.clone() for b in hf.buffers()]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in hf.modules())
    return {k: v for k, v in left.items() if not callable(v)}, weights, hooks, hf.training


def _check_unchanged(model, state):
    after = _state(model)
    assert after[0].keys() == state[0].keys()
    assert all(value is state[0][name] for name, value in after[0].items())
    assert after[2:] == state[2:]
    assert all(torch.equal(a, b) for a, b in zip(after[1], state[1], strict=True))


def _fail(error):
    def hook(x, name):
        raise error

    return hook


@pytest.mark.parametrize(
    "error", [ValueError("mine"), KeyboardInterrupt(), RuntimeError("boom")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("way", ["logits", "generate_tokens", "capture"])
@pytest.mark.parametrize("family", ["qwen2_vl", "llama"])
def test_an_error_inside_a_hook_comes_out_as_it_is_and_leaves_nothing(family, way, error):
    model, inputs = model_of(family), inputs_of(model_of(family))
    before, state = model.logits(inputs), _state(model)
    bad = ci.Hook("blocks.2.hook_resid_mid", _fail(error))
    call = {
        "logits": lambda: model.logits(inputs, bad),
        "generate_tokens": lambda: model.generate_tokens(inputs, bad),
        "capture": lambda: model.capture(inputs, STREAM, interventions=bad),
    }[way]
    with pytest.raises(type(error), match=str(error) or None):
        call()
    _check_unchanged(model, state)
    same(model.logits(inputs), before)


@pytest.mark.parametrize("family", LAWFUL)
def test_an_error_in_a_later_generation_step_comes_out(family):
    model, calls = model_of(family), []

    def third_time(x, name):
        calls.append(x.shape[1])
        if len(calls) == 3:
            raise ValueError("in step 2")

    with pytest.raises(ValueError, match="in step 2"):
        model.generate_tokens(inputs_of(model), ci.Hook("blocks.0.hook_resid_post", third_time), 6)
    assert calls[1:] == [1, 1]


@pytest.mark.parametrize("family", LAWFUL)
def test_the_model_is_unchanged_by_everything(family):
    model, inputs = fresh(family), inputs_of(fresh(family))
    # A bare call leaves transformers' own hooks and Qwen2-VL's rope_deltas, so it comes before the state.
    before, state = model.hf(**inputs.tensors, use_cache=False).logits, _state(model)
    change = ci.Hook(model.hook_points, lambda x, _: x * 1.1)
    model.logits(inputs, change)
    model.generate(inputs, change, 3)
    model.capture(inputs, STREAM, interventions=change)
    _check_unchanged(model, state)
    same(model.hf(**inputs.tensors, use_cache=False).logits, before)


def test_rope_deltas_of_one_run_do_not_reach_the_next():
    model = model_of("qwen2_vl")
    short, long = model.prepare("red"), model.prepare(TEXTS[1], picture())
    alone = model.generate_tokens(short, max_new_tokens=4)
    model.hf.model.rope_deltas = None
    model.generate_tokens(long, max_new_tokens=2)
    assert model.hf.model.rope_deltas is None
    same(model.generate_tokens(short, max_new_tokens=4), alone)


def test_a_hook_may_edit_in_place():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    clean = model.logits(inputs)

    def in_place(x, name):
        x.mul_(2)

    same(
        model.logits(inputs, ci.Hook("blocks.1.hook_resid_post", in_place)),
        model.logits(inputs, ci.Hook("blocks.1.hook_resid_post", lambda x, _: x * 2)),
    )
    same(model.logits(inputs), clean)


def test_a_hook_that_returns_another_shape_is_told_so():
    model = model_of("llama")
    with pytest.raises(MismatchError, match=r"shape .* does not fit .* at 'blocks.1.hook_resid_post'"):
        model.logits(inputs_of(model), ci.Hook("blocks.1.hook_resid_post", lambda x, _: x[:, 1:]))


# Where calls come from.


@pytest.mark.parametrize("family", LAWFUL)
def test_two_threads_share_a_model(family):
    model, inputs = model_of(family), inputs_of(model_of(family))
    change = ci.Hook(STREAM, lambda x, _: x * 1.1)
    wanted = model.logits(inputs, change), model.generate(inputs, change, 4)
    got, start = {}, threading.Barrier(2)

    def work(number):
        start.wait()
        for _ in range(4):
            got[number] = model.logits(inputs, change), model.generate(inputs, change, 4)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(got) == {0, 1}
    for logits, texts in got.values():
        same(logits, wanted[0])
        assert texts == wanted[1]


def test_calls_work_from_code_without_a_source_file():
    model = model_of("llama")
    space = {"model": model, "inputs": inputs_of(model), "ci": ci}
    exec("with_hook = model.logits(inputs, ci.Hook('blocks.*.hook_attn_out', lambda x, n: 0 * x))", space)
    wanted = model.logits(space["inputs"], ci.Ablate("blocks.*.hook_attn_out"))
    same(space["with_hook"], wanted)
    same(eval("model.logits(inputs, ci.Ablate('blocks.*.hook_attn_out'))", space), wanted)


def test_calls_work_under_gradients_and_inside_other_hooks():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    with torch.enable_grad():
        assert not model.logits(inputs, ci.Hook(STREAM, lambda x, _: x * 2)).requires_grad
        assert not model.capture(inputs, STREAM)["blocks.0.hook_resid_post"].requires_grad


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3_moe"])
def test_scores_beyond_what_numbers_hold_hide_and_are_not_nan(family):
    """Masked scores are as low as numbers go; padding sees nothing but them."""
    model, inputs = model_of(family), inputs_of(model_of(family), "left")
    scaled = ci.Hook("blocks.*.attn.hook_attn_scores", lambda x, _: 1.5 * x)
    assert model.logits(inputs, scaled, positions="all").isfinite().all()

    def hide_the_first(x, name):
        return x.index_fill(-1, torch.tensor([0]), -torch.inf)

    right = inputs_of(model, "right")
    hidden = ci.Hook("blocks.1.attn.hook_attn_scores", hide_the_first)
    pattern = model.capture(right, "blocks.1.attn.hook_pattern", "all", hidden)["blocks.1.attn.hook_pattern"]
    assert not pattern[:, :, 1:, 0].any()
    close(pattern.sum(-1), torch.ones_like(pattern.sum(-1)))


def test_a_router_does_not_judge_itself_by_tokens_that_are_nan():
    model, inputs = model_of("qwen3_moe"), inputs_of(model_of("qwen3_moe"), "right")

    def first_row(x, name):
        return x.index_fill(0, torch.tensor([0]), torch.nan)

    acting = [ci.Hook("blocks.1.hook_resid_pre", first_row), ci.Hook("blocks.1.mlp.hook_router", lambda x, _: -x)]
    logits = model.logits(inputs, acting)
    close(logits[1:], model.logits(inputs, acting[1])[1:])
    assert logits[0].isnan().all()


@pytest.mark.parametrize("name", ["hook_mlp_out", "hook_resid_mid"])
def test_a_point_that_looks_back_at_another_that_looks_back_can_be_asked_for_alone(name):
    model, inputs = model_of("mllama"), inputs_of(model_of("mllama"), kind="image")
    every = model.capture(inputs, "blocks.1.*", "all")
    same(model.capture(inputs, f"blocks.1.{name}", "all")[f"blocks.1.{name}"], every[f"blocks.1.{name}"])
