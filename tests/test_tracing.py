"""Every hook point, read and written, in prefill and in every generation step, against bare forward hooks."""

import threading

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, MismatchError, ModelError
from tests.oracles import hooks as oracle
from tests.support import (
    FAMILIES,
    SIDES,
    STREAM,
    TEXTS,
    VISION,
    close,
    fresh,
    inputs_of,
    model_of,
    picture,
    same,
    twin_of,
)

KINDS = {"llava": ("text", "image", "mixed"), "qwen2_vl": ("text", "image", "mixed"), "llama": ("text",)}
CASES = [(family, kind) for family in FAMILIES for kind in KINDS[family]]
POINTS = [(family, name) for family in FAMILIES for name in oracle.names(twin_of(family))]

# The blocks are alike, and generation is slow: the first and the last of them.
STEPPED = [(family, name) for family, name in POINTS if not name.startswith(("blocks.1.", "blocks.2."))]


def bend(x):
    """A change that is no symmetry of anything: scale, offset, and unequal over the last axis."""
    return 0.8 * x + 0.1 * torch.linspace(-1, 2, x.shape[-1])


def recorder():
    seen = {}
    return seen, lambda x, name: seen.setdefault(name, []).append(x.clone())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_hook_points_are_those_of_the_specification(family):
    assert sorted(model_of(family).hook_points) == oracle.names(twin_of(family))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("family", "kind"), CASES)
def test_capture_reads_what_forward_hooks_read(family, kind, side):
    model, inputs = model_of(family), inputs_of(model_of(family), side, kind)
    wanted = oracle.read(twin_of(family), inputs.tensors)
    got = model.capture(inputs, list(wanted), positions="all")
    assert list(got) == [name for name in model.hook_points if name in wanted]
    for name, value in wanted.items():
        close(got[name], value)


@pytest.mark.parametrize(("family", "name"), POINTS)
def test_a_write_does_in_a_forward_what_the_name_says(family, name):
    model, inputs = model_of(family), inputs_of(model_of(family), "right")
    got = model.logits(inputs, ci.Hook(name, lambda x, _: bend(x)), positions="all")
    wanted = oracle.logits(twin_of(family), inputs.tensors, {name: bend})
    close(got, wanted)


@pytest.mark.parametrize(("family", "name"), STEPPED)
def test_a_write_and_a_read_do_it_in_every_generation_step(family, name):
    model, inputs = model_of(family), inputs_of(model_of(family))
    logits, record = recorder()
    seen, record_point = recorder()
    acting = [ci.Hook(name, lambda x, _: bend(x)), ci.Hook(name, record_point), ci.Hook("unembed.hook_out", record)]
    got = model.generate_tokens(inputs, acting, max_new_tokens=4)

    wanted_seen = []

    def bend_and_keep(x):
        wanted_seen.append(bend(x))
        return wanted_seen[-1]

    wanted, wanted_logits = oracle.generate(twin_of(family), inputs.tensors, 4, {name: bend_and_keep})
    assert got.tolist() == wanted.tolist()
    close(torch.stack([step[:, -1] for step in logits["unembed.hook_out"]], 1), wanted_logits)
    assert len(seen[name]) == len(wanted_seen) == (1 if name.startswith(("vision.", "projector.")) else 4)
    for mine, theirs in zip(seen[name], wanted_seen, strict=True):
        close(_without_padding(mine, theirs, name), theirs)


def _without_padding(mine, theirs, name):
    # The oracle pads packed patches with zeros that were bent along; where there are none, padding is not compared.
    return (
        torch.where(theirs == bend(torch.zeros_like(theirs)), theirs, mine)
        if name.startswith(("vis", "proj"))
        else mine
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hook_that_changes_nothing_changes_no_bit(family):
    model, inputs = model_of(family), inputs_of(model_of(family))
    idle = ci.Hook(model.hook_points, lambda x, name: None)
    same(model.logits(inputs, idle, positions="all"), model.logits(inputs, positions="all"))
    same(model.logits(inputs, ci.Hook(model.hook_points, lambda x, _: x.clone())), model.logits(inputs))
    same(model.generate_tokens(inputs, idle, 5), model.generate_tokens(inputs, max_new_tokens=5))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stream_adds_up(family):
    model = model_of(family)
    acts = model.capture(inputs_of(model), "blocks.*.*", positions="all")
    for i in range(model.n_layers):
        b = f"blocks.{i}.hook_"
        same(acts[b + "resid_pre"] + acts[b + "attn_out"], acts[b + "resid_mid"])
        same(acts[b + "resid_mid"] + acts[b + "mlp_out"], acts[b + "resid_post"])
        if i:
            same(acts[b + "resid_pre"], acts[f"blocks.{i - 1}.hook_resid_post"])


@pytest.mark.parametrize("where", ["resid_pre", "attn_out", "resid_mid", "mlp_out"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_stream_adds_up_after_a_write(family, where):
    model, twin = model_of(family), oracle.decoder(twin_of(family)).layers[1]
    acts = model.capture(
        inputs_of(model), "blocks.1.*", "all", interventions=ci.Hook(f"blocks.1.hook_{where}", lambda x, _: bend(x))
    )
    mid, post = acts["blocks.1.hook_resid_mid"], acts["blocks.1.hook_resid_post"]
    if where != "resid_mid":
        close(acts["blocks.1.hook_resid_pre"] + acts["blocks.1.hook_attn_out"], mid)
    close(mid + acts["blocks.1.hook_mlp_out"], post)
    if where != "mlp_out":
        with torch.no_grad():
            close(mid + twin.mlp(twin.post_attention_layernorm(mid)), post)


@pytest.mark.parametrize("family", FAMILIES)
def test_z_and_attn_out_are_those_of_a_written_pattern(family):
    model, attn = model_of(family), oracle.decoder(twin_of(family)).layers[2].self_attn
    uniform = ci.Hook("blocks.2.attn.hook_pattern", lambda x, _: torch.ones_like(x) / x.shape[-1])
    acts = model.capture(inputs_of(model), ["blocks.2.*", "blocks.2.attn.*"], "all", interventions=uniform)
    v = acts["blocks.2.attn.hook_v"].repeat_interleave(2, dim=2)
    z = v.mean(1, keepdim=True).expand_as(v)
    close(acts["blocks.2.attn.hook_z"], z)
    with torch.no_grad():
        close(acts["blocks.2.hook_attn_out"], attn.o_proj(z.flatten(-2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pattern_is_a_causal_distribution_over_real_tokens(family):
    model, inputs = model_of(family), inputs_of(model_of(family))
    pattern = model.capture(inputs, "blocks.0.attn.hook_pattern", "all")["blocks.0.attn.hook_pattern"]
    real = inputs.mask("all")
    rows = pattern.movedim(2, 1)[real]
    close(rows.sum(-1), torch.ones(rows.shape[:-1]))
    assert not pattern.triu(1).movedim(2, 1)[real].any()
    hidden = (~real)[:, None, None].expand_as(pattern).movedim(2, 1)[real]
    assert not rows[hidden].any()


def test_a_pattern_needs_eager_attention():
    model = fresh("llama", eager=False)
    inputs = inputs_of(model)
    words = r"'blocks.0.attn.hook_pattern' needs attention weights.*'sdpa'.*attn_implementation='eager'"
    with pytest.raises(ModelError, match=words):
        model.capture(inputs, "blocks.0.attn.hook_pattern")
    with pytest.raises(ModelError, match=words):
        model.generate_tokens(inputs, ci.Ablate("blocks.0.attn.hook_pattern"))
    model.capture(inputs, [n for n in model.hook_points if "pattern" not in n])


@pytest.mark.parametrize("family", VISION)
def test_vision_points_need_an_image(family):
    model, text = model_of(family), inputs_of(model_of(family), kind="text")
    for call in (
        lambda: model.capture(text, "vision.hook_out"),
        lambda: model.logits(text, ci.Ablate("projector.hook_out")),
        lambda: model.generate_tokens(text, ci.Ablate("projector.hook_out"), 2),
    ):
        with pytest.raises(HookPointError, match=r"hook_out' is only reached with an image"):
            call()


def test_the_packed_patches_of_images_of_unequal_size_are_told_apart():
    model = model_of("qwen2_vl")
    pictures = [picture(0, (32, 32)), picture(1, (16, 24)), picture(2, (24, 16))]
    inputs = model.prepare(TEXTS, pictures)
    together = model.capture(inputs, ["vision.blocks.*.*", "vision.hook_out", "projector.hook_out"])
    for name in together:
        counts = together.patch_masks[name].sum(1).tolist()
        merged = 4 if name == "projector.hook_out" else 1
        assert counts == [64 // merged, 24 // merged, 24 // merged]
        for row, image in enumerate(pictures):
            alone = model.capture(model.prepare(TEXTS[row], image), name)[name]
            close(together[name][row, : counts[row]], alone[0])
            assert not together[name][row, counts[row] :].any()


@pytest.mark.parametrize("family", VISION)
def test_the_projectors_output_is_what_stands_at_the_image_tokens(family):
    model, inputs = model_of(family), inputs_of(model_of(family), kind="image")
    acts = model.capture(inputs, ["projector.hook_out"])
    stream = model.capture(inputs, "blocks.0.hook_resid_pre", positions="image")
    same(stream.selected("blocks.0.hook_resid_pre"), acts.selected("projector.hook_out"))


@pytest.mark.parametrize("family", VISION)
def test_zeroing_the_projector_zeroes_the_image_tokens_and_leaves_text_rows(family):
    model, inputs = model_of(family), inputs_of(model_of(family), kind="mixed")
    zero = ci.Ablate("projector.hook_out")
    stream = model.capture(inputs, "blocks.0.hook_resid_pre", "image", interventions=zero)
    assert not stream.selected("blocks.0.hook_resid_pre").any()
    plain, edited = model.logits(inputs), model.logits(inputs, zero)
    close(edited[1], plain[1])
    assert not torch.allclose(edited[0], plain[0], atol=1e-2)


@pytest.mark.parametrize("family", VISION)
def test_edits_of_the_vision_side_do_not_depend_on_the_batches(family):
    model, inputs = model_of(family), inputs_of(model_of(family), kind="mixed")
    zero = ci.Ablate("projector.hook_out")
    close(model.logits(inputs, zero, batch_size=1), model.logits(inputs, zero))
    assert model.generate(inputs, zero, 3, batch_size=1) == model.generate(inputs, zero, 3)


@pytest.mark.parametrize("family", VISION)
def test_token_positions_mean_nothing_among_patches(family):
    model = model_of(family)
    with pytest.raises(HookPointError, match=r"holds patches of images, not tokens: position 'last'.*positions='all'"):
        model.logits(inputs_of(model), ci.Ablate("projector.hook_out", positions="last"))


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


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_in_a_later_generation_step_comes_out(family):
    model, calls = model_of(family), []

    def third_time(x, name):
        calls.append(x.shape[1])
        if len(calls) == 3:
            raise ValueError("in step 2")

    with pytest.raises(ValueError, match="in step 2"):
        model.generate_tokens(inputs_of(model), ci.Hook("blocks.0.hook_resid_post", third_time), 6)
    assert calls[1:] == [1, 1]


@pytest.mark.parametrize("family", FAMILIES)
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


@pytest.mark.parametrize("family", FAMILIES)
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
