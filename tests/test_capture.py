"""Captured activations: the right ones, whatever the batches, and the same after a stop."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, ImageError, InputError, MismatchError, StoreError
from tests.oracles import hooks as oracle
from tests.support import (
    FAMILIES,
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
    reachable,
    same,
    twin_of,
    unchecked,
    vectors,
)

# A family for each way in which images lie in the inputs; what every family must do is below.
FEW = ("llava", "qwen2_vl", "idefics3", "mllama", "llama")
POST = "blocks.1.hook_resid_post"
POSITIONS = ["last", "all", "prompt", "image", "text", 2, -2, slice(1, -1), slice(-3, None)]


# Features of the tower are added to a block's output after transformers keeps it.
BEFORE_ADDITION = ("qwen3_vl", "qwen3_vl_moe")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_stream_is_output_hidden_states(family, side):
    model = model_of(family)
    for kind in ("text", "image"):
        inputs = inputs_of(model, side, kind)
        states = oracle.hidden_states(twin_of(family), inputs.tensors)
        acts = model.capture(
            inputs, ["blocks.*.hook_resid_pre", "blocks.*.hook_resid_post", "ln_final.hook_out"], "all"
        )
        # Blocks that are left out without an image have no state of their own.
        layers = [0, 2, 4] if (family, kind) == ("mllama", "text") else list(range(model.n_layers))
        for i, state in zip(layers, states[:-1], strict=True):
            added = family in BEFORE_ADDITION and i > 0
            close(acts[f"blocks.{i - 1}.hook_resid_post" if added else f"blocks.{i}.hook_resid_pre"], state)
        close(acts["ln_final.hook_out"], states[-1])


@pytest.mark.parametrize("position", POSITIONS, ids=str)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", FEW)
def test_positions_are_columns_of_all(family, side, position):
    model = model_of(family)
    inputs = inputs_of(model, side)
    hooks = [POST, "blocks.2.attn.hook_q", "blocks.2.attn.hook_pattern"]
    every, some = model.capture(inputs, hooks, "all"), model.capture(inputs, hooks, position)
    mask = inputs.mask(position)
    for hook in hooks:
        queries = every[hook].movedim(2, 1) if hook.endswith("pattern") else every[hook]
        same(some.selected(hook), queries[mask])
    if position == "last" or isinstance(position, int):
        assert some.mask is None
        assert some[POST].shape == (3, model.d_model)
    else:
        assert some.mask.sum(1).tolist() == mask.sum(1).tolist()
    if position == "all":
        same(some.mask, mask)


@pytest.mark.parametrize(
    ("position", "batch_size"), [*((p, 1) for p in POSITIONS), ("text", 2), ("all", "auto")], ids=str
)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", FEW)
def test_one_batch_is_as_good_as_several(family, side, position, batch_size):
    model = model_of(family)
    inputs = inputs_of(model, side)
    hooks = [POST, "blocks.0.attn.hook_z", "blocks.0.attn.hook_pattern"]
    together = model.capture(inputs, hooks, position, batch_size=3)
    apart = model.capture(inputs, hooks, position, batch_size=batch_size)
    for hook in hooks:
        assert apart[hook].shape == together[hook].shape
        close(apart.selected(hook), together.selected(hook))
    if together.mask is not None:
        same(apart.mask, together.mask)


@pytest.mark.parametrize(("side", "batch_size"), [("left", 1), ("right", 2)])
@pytest.mark.parametrize("family", LAWFUL)
def test_every_hook_point_in_batches(family, side, batch_size):
    model = model_of(family)
    inputs = inputs_of(model, side, "image")
    # A Q-Former's words are padded to the longest question of the batch.
    hooks = [n for n in reachable(model) if family != "instructblip" or not n.startswith("qformer.blocks")]
    together, apart = model.capture(inputs, hooks, "all"), model.capture(inputs, hooks, "all", batch_size=batch_size)
    assert list(together) == list(apart) == hooks
    for hook in hooks:
        same(apart.mask_of(hook), together.mask_of(hook))
        assert apart[hook].shape == together[hook].shape
        mine, theirs = apart.selected(hook), together.selected(hook)
        if hook.endswith("hook_attn_scores"):
            # Keys that are padding in the whole and not there in a batch are masked in both.
            same(mine > -1e30, theirs > -1e30)
            mine, theirs = mine.where(theirs > -1e30, 0), theirs.where(theirs > -1e30, 0)
        close(mine, theirs)


@pytest.mark.parametrize("family", LAWFUL)
def test_the_padding_side_makes_no_difference(family):
    model = model_of(family)
    left, right = (model.capture(inputs_of(model, side), STREAM, "all") for side in SIDES)
    for hook in left:
        close(left.selected(hook), right.selected(hook))


@pytest.mark.parametrize("family", LAWFUL)
def test_what_is_captured_is_after_the_interventions(family):
    model, inputs = model_of(family), inputs_of(model_of(family))
    v = vectors(model, POST)
    acts = model.capture(inputs, [POST, "blocks.2.hook_resid_pre"], interventions=ci.Add(v, 2.0))
    plain = model.capture(inputs, POST)
    close(acts[POST], plain[POST] + 2 * v[POST])
    same(acts[POST], acts["blocks.2.hook_resid_pre"])


@pytest.mark.parametrize("family", LAWFUL)
def test_the_forward_is_left_after_the_last_hook_point(family):
    model = model_of(family)
    calls = []
    handle = oracle.head(model.hf).register_forward_pre_hook(lambda *a: calls.append("head"))
    deeper = oracle.layers(model.hf)[2].register_forward_pre_hook(lambda *a: calls.append("block 2"))
    try:
        model.capture(inputs_of(model), "blocks.1.hook_resid_post")
        assert calls == []
        model.capture(inputs_of(model), "unembed.hook_out")
        assert calls == ["block 2", "head"]
    finally:
        handle.remove()
        deeper.remove()


@pytest.mark.parametrize("family", LAWFUL)
def test_logits_are_the_unembedding(family):
    model, inputs = model_of(family), inputs_of(model_of(family))
    head, cap = model.capture(inputs, "unembed.hook_out")["unembed.hook_out"], oracle.softcap(model.hf)
    close(head if cap is None else cap * torch.tanh(head / cap), model.logits(inputs))


def test_a_stream_is_the_capture_batch_by_batch():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    parts = list(model.stream(inputs, STREAM, batch_size=2))
    assert [part.n_rows for part in parts] == [2, 1]
    whole = model.capture(inputs, STREAM, batch_size=2)
    for hook in whole:
        same(torch.cat([part[hook] for part in parts]), whole[hook])


def test_captured_activations_are_copies():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    acts = model.capture(inputs, [POST, "blocks.2.hook_resid_pre"], "all")
    acts[POST].zero_()
    assert acts["blocks.2.hook_resid_pre"].any()
    assert acts[POST].device.type == "cpu"
    assert not acts[POST].requires_grad


@pytest.mark.parametrize(("position", "batch_size"), [("last", 1), ("all", 2), ("text", 1), ("all", 3)])
@pytest.mark.parametrize("family", FEW)
def test_a_stored_capture_is_the_capture(family, position, batch_size, tmp_path):
    model, inputs = model_of(family), inputs_of(model_of(family))
    how = {"positions": position, "batch_size": batch_size}
    stored = model.capture(inputs, STREAM, **how, store=tmp_path / "acts")
    assert stored == model.capture(inputs, STREAM, **how)
    assert model.capture(inputs, STREAM, **how, store=tmp_path / "acts") == stored


def test_a_stored_capture_keeps_the_forward_order(tmp_path):
    model = fresh("llama", num_hidden_layers=12)
    model.capture(inputs_of(model), STREAM, store=tmp_path / "acts")
    acts = model.capture(inputs_of(model), STREAM, store=tmp_path / "acts")
    assert list(acts) == [f"blocks.{i}.hook_resid_post" for i in range(12)]
    acts.save(tmp_path / "x.safetensors")
    assert list(ci.Activations.load(tmp_path / "x.safetensors")) == list(acts)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("family", FEW)
def test_a_stopped_capture_goes_on_where_it_was(family, error, tmp_path):
    model, inputs = model_of(family), inputs_of(model_of(family))
    whole, calls = model.capture(inputs, STREAM, batch_size=1), []

    class Stop(ci.Hook):
        def apply(self, activation, hook, step):
            calls.append(int(step.rows))
            if calls == [0, 1]:
                raise error("stopped")
            return activation

        def __repr__(self):
            return "Stop"

    stop = Stop("blocks.3.hook_resid_post", int)
    with pytest.raises(error):
        model.capture(inputs, STREAM, interventions=stop, batch_size=1, store=tmp_path)
    again = model.capture(inputs, STREAM, interventions=stop, batch_size=1, store=tmp_path)
    assert calls == [0, 1, 1, 2]
    assert again == whole


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("hooks", {"hooks": "blocks.0.hook_resid_post"}),
        ("positions", {"positions": "all"}),
        ("inputs", {"inputs": model_of("llama").prepare(TEXTS[:2])}),
        ("interventions", {"interventions": ci.Ablate(STREAM)}),
        ("interventions", {"interventions": ci.Add(vectors(model_of("llama"), seed=1))}),
    ],
)
def test_a_folder_with_another_capture_is_refused_and_left(what, change, tmp_path):
    model = model_of("llama")
    how = {"inputs": inputs_of(model), "hooks": STREAM, "interventions": ci.Add(vectors(model))}
    model.capture(**how, store=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(MismatchError, match=rf"was begun with {what}=.*use another folder or remove this one"):
        model.capture(**{**how, **change}, store=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_knows_functions_by_what_they_do(tmp_path):
    """Two functions made alike are one edit, in another process too; the same place in memory says nothing."""
    model = model_of("llama")

    def scaled(factor):
        return ci.Hook("blocks.1.hook_resid_post", lambda x, hook: x * factor)

    first = model.capture(inputs_of(model), STREAM, interventions=scaled(2.0), store=tmp_path)
    assert model.capture(inputs_of(model), STREAM, interventions=scaled(2.0), store=tmp_path) == first
    with pytest.raises(MismatchError, match="was begun with interventions="):
        model.capture(inputs_of(model), STREAM, interventions=scaled(3.0), store=tmp_path)


def test_a_folder_of_another_model_is_refused(tmp_path):
    model, other = model_of("llama"), fresh("llama", seed=1)
    model.capture(inputs_of(model), STREAM, store=tmp_path)
    with pytest.raises(MismatchError, match="was begun with model="):
        other.capture(inputs_of(other), STREAM, store=tmp_path)


def test_a_damaged_block_is_refused(tmp_path):
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    model.capture(inputs, STREAM, store=tmp_path)
    block = next(tmp_path.glob("*.safetensors"))
    data = bytearray(block.read_bytes())
    data[-3] ^= 1
    block.write_bytes(data)
    with pytest.raises(StoreError, match="is corrupt"):
        model.capture(inputs, STREAM, store=tmp_path)


# Their towers have several rows an image, and a block of a folder one a prompt.
CROPS = ("llava_next", "llava_onevision", "internvl", "idefics3", "smolvlm", "aya_vision")


@pytest.mark.parametrize("family", VISION)
def test_patches_in_a_folder(family, tmp_path):
    model, hooks = model_of(family), ["vision.hook_out", "projector.hook_out", POST]
    inputs = inputs_of(model, kind="image")
    if family in CROPS:
        with pytest.raises(InputError, match=r"its first axis must be the \d rows"):
            model.capture(inputs, hooks, batch_size=2, store=tmp_path / "image")
        return
    stored = model.capture(inputs, hooks, batch_size=2, store=tmp_path / "image")
    assert stored == model.capture(inputs, hooks, batch_size=2)
    with pytest.raises(InputError, match=r"store= needs an image in every prompt .*: leave store= out"):
        model.capture(inputs_of(model, kind="apart"), hooks, store=tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("family", VISION)
def test_patches_of_a_mixed_batch(family, batch_size):
    model, inputs = model_of(family), inputs_of(model_of(family), kind="apart")
    hooks = ["projector.hook_out", POST]
    alone = model.capture(model.prepare([TEXTS[0], TEXTS[2]], [picture(0), picture(2, (24, 16))]), hooks)
    acts = model.capture(inputs, hooks, batch_size=batch_size)
    assert acts[POST].shape[0] == 3
    close(acts.selected("projector.hook_out"), alone.selected("projector.hook_out"))
    close(acts[POST][[0, 2]], alone[POST])


@pytest.mark.parametrize(
    ("hooks", "positions", "words"),
    [
        ("blocks.4.hook_resid_post", "last", r"this model has 4 layers \(0-3\)"),
        ("blocks.0.hook_resid", "last", "the nearest are"),
        ([], "last", "no hook points were asked for"),
        (STREAM, "lats", "no position 'lats': use one of last, all"),
        (STREAM, 40, r"no position 40: row 0 has \d+ tokens"),
        (STREAM, "generated", "a capture runs the prompt alone, in which no token is generated"),
    ],
)
def test_what_cannot_be_captured(hooks, positions, words):
    model = model_of("llama")
    with pytest.raises(HookPointError, match=words):
        model.capture(inputs_of(model), hooks, positions)


@pytest.mark.parametrize("size", [0, -1, 1.5, "all", True])
def test_batch_sizes_are_positive_numbers(size):
    model = model_of("llama")
    for call in (model.logits, model.generate, lambda i, batch_size: model.capture(i, STREAM, batch_size=batch_size)):
        with unchecked(), pytest.raises(InputError, match=r"batch_size=.*: give a positive number of rows, or 'auto'"):
            call(inputs_of(model), batch_size=size)


def test_a_batch_that_does_not_fit_is_halved():
    model, inputs, sizes = model_of("llama"), model_of("llama").prepare(TEXTS * 5), []

    def small(x, name):
        sizes.append(len(x))
        if len(x) > 4:
            raise RuntimeError("CUDA out of memory.")

    acts = model.capture(inputs, POST, interventions=ci.Hook("hook_embed", small))
    assert sizes[-5:] == [7, 3, 3, 3, 3] or sizes[-4:] == [4, 4, 4, 3], sizes
    close(acts[POST], model.capture(inputs, POST)[POST])
    with pytest.raises(RuntimeError, match="out of memory"):
        model.capture(inputs, POST, interventions=ci.Hook("hook_embed", small), batch_size=8)


def test_an_unreadable_image_is_named_by_its_row(tmp_path):
    model = model_of("llava")
    picture().save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:-200])
    inputs = model.prepare(TEXTS, [tmp_path / "good.png", picture(), tmp_path / "cut.png"])
    for batch_size in (3, 1):
        with pytest.raises(ImageError, match=r"prompt 2: .*cut\.png is truncated"):
            model.capture(inputs, POST, batch_size=batch_size)
        with pytest.raises(ImageError, match=r"prompt 2: .*cut\.png is truncated"):
            model.generate(inputs, batch_size=batch_size)
    missing = model.prepare(TEXTS, [picture(), tmp_path / "none.png", picture()])
    with pytest.raises(ImageError, match=r"prompt 1: image file .*none\.png does not exist"):
        model.logits(missing, batch_size=1)
