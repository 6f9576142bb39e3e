"""Laws of the stream and of the vision side, for every family; one that a law is not for is named with the reason."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError
from tests.support import LAWFUL, TEXTS, VISION, close, inputs_of, model_of, picture, quiet, same

SEEING = tuple(family for family in LAWFUL if family in VISION)

# Features of earlier layers of the tower are added to the stream at image tokens, between the first blocks.
ADDS_BETWEEN_BLOCKS = ("qwen3_vl", "qwen3_vl_moe")
# Values are normed on their way to the attention.
NORMS_VALUES = ("gemma4",)
# The whole prompt sees itself.
SEES_BOTH_WAYS = ("paligemma", "paligemma2")
# Image tokens are not just the projector's output.
REARRANGED = {
    "llava_next": "padding is taken out and newlines are put between rows",
    "llava_onevision": "padding is taken out, newlines are put between rows, large images are shrunk",
    "mllama": "the stream attends to the image and never holds it",
}


def scale_of(model, layer):
    """By what a block multiplies the stream at its end."""
    return getattr(model.hf.get_decoder().layers[layer], "layer_scalar", 1) if model.family.name == "gemma4" else 1


def bend(x):
    """A change that is no symmetry of anything."""
    return 0.8 * x + 0.1 * torch.linspace(-1, 2, x.shape[-1])


def adds_up(model, acts, layer, after_attention=True):
    """Checks that what a block adds is what its stream moves by."""
    b = f"blocks.{layer}.hook_"
    total = acts[b + "resid_pre"] + acts[b + "attn_out"]
    if b + "resid_mid" in acts:
        if after_attention:
            close(total, acts[b + "resid_mid"])
        total = acts[b + "resid_mid"]
    total = total + acts[b + "mlp_out"]
    if b + "per_layer_out" in acts:
        total = total + acts[b + "per_layer_out"]
    close(total * scale_of(model, layer), acts[b + "resid_post"])


@pytest.mark.parametrize("family", LAWFUL)
def test_the_stream_adds_up(family):
    model = model_of(family)
    for kind in ("text", "image"):
        inputs = inputs_of(model, kind=kind)
        acts = model.capture(inputs, "blocks.*.*", "all")
        for i in range(model.n_layers):
            adds_up(model, acts, i)
            if i == 0:
                continue
            before, after = (f"blocks.{i - 1}.hook_resid_post", f"blocks.{i}.hook_resid_pre")
            alike = ~inputs.mask("image") if family in ADDS_BETWEEN_BLOCKS else inputs.mask("all")
            same(acts[before][alike], acts[after][alike])


@pytest.mark.parametrize("family", ADDS_BETWEEN_BLOCKS)
def test_features_of_the_tower_come_between_the_first_blocks(family):
    model, inputs = model_of(family), inputs_of(model_of(family), kind="image")
    acts, image = model.capture(inputs, "blocks.*.*", "all"), inputs_of(model_of(family), kind="image").mask("image")
    moved = [
        bool((acts[f"blocks.{i}.hook_resid_post"] != acts[f"blocks.{i + 1}.hook_resid_pre"]).any(-1)[image].all())
        for i in range(3)
    ]
    assert moved == [True, True, False]


@pytest.mark.parametrize("family", LAWFUL)
def test_the_stream_adds_up_after_a_write(family):
    model = model_of(family)
    inputs = inputs_of(model, kind="image")
    plain = model.capture(inputs, "blocks.1.*", "all")
    for where in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"):
        name = f"blocks.1.hook_{where}"
        if name not in model.hook_points:
            assert (where, model.network.adds_up("blocks.1")) == ("resid_mid", True)
            assert family == "aya_vision"  # attention and MLP read the same stream
            continue
        acts = model.capture(inputs, "blocks.1.*", "all", ci.Hook(name, lambda x, _: bend(x)))
        close(acts[name], bend(plain[name]))
        if where != "resid_post":
            adds_up(model, acts, 1, after_attention=where != "resid_mid")


@pytest.mark.parametrize("family", [f for f in LAWFUL if f not in NORMS_VALUES])
def test_z_is_the_values_weighted_by_a_written_pattern(family):
    model = model_of(family)
    uniform = ci.Hook("blocks.2.attn.hook_pattern", lambda x, _: torch.ones_like(x) / x.shape[-1])
    acts = model.capture(inputs_of(model), "blocks.2.attn.*", "all", interventions=uniform)
    v, z = acts["blocks.2.attn.hook_v"], acts["blocks.2.attn.hook_z"]
    close(z, v.mean(1, keepdim=True).repeat_interleave(z.shape[2] // v.shape[2], dim=2).expand_as(z))


@pytest.mark.parametrize("family", LAWFUL)
def test_scores_make_the_pattern_and_heads_make_the_output(family):
    model, inputs = model_of(family), inputs_of(model_of(family), kind="image")
    acts = model.capture(inputs, ["blocks.*.attn.*", "blocks.*.hook_attn_out"], "all")
    for i in {int(name.split(".")[1]) for name in acts if ".attn." in name}:
        b = f"blocks.{i}.attn.hook_"
        close(torch.softmax(acts[b + "attn_scores"], -1), acts[b + "pattern"])
        raw = acts[b + "out"] if b + "out" in acts else acts[f"blocks.{i}.hook_attn_out"]
        rest = raw - acts[b + "result"].sum(2)
        # What is left is the bias, the same at every token.
        close(rest, rest[:1, :1].expand_as(rest))


@pytest.mark.parametrize("family", LAWFUL)
def test_a_pattern_is_a_causal_distribution_over_real_tokens(family):
    model = model_of(family)
    for kind in ("text", "image"):
        inputs = inputs_of(model, kind=kind)
        pattern = model.capture(inputs, "blocks.0.attn.hook_pattern", "all")["blocks.0.attn.hook_pattern"]
        real = inputs.mask("all")
        rows = pattern.movedim(2, 1)[real]
        close(rows.sum(-1), torch.ones(rows.shape[:-1]))
        hidden = (~real)[:, None, None].expand_as(pattern).movedim(2, 1)[real]
        assert not rows[hidden].any()
        if kind == "text" and family not in SEES_BOTH_WAYS:
            assert not pattern.triu(1).movedim(2, 1)[real].any()


@pytest.mark.parametrize("family", LAWFUL)
def test_a_norm_divides_by_its_scale(family):
    model = model_of(family)
    acts = model.capture(inputs_of(model, kind="image"), ["blocks.*.*", "blocks.*.ln1.*", "ln_final.*"], "all")
    ends = [(f"blocks.{i}.hook_resid_pre", f"blocks.{i}.ln1") for i in range(model.n_layers)]
    for stream, norm in [*ends, (f"blocks.{model.n_layers - 1}.hook_resid_post", "ln_final")]:
        x, plain = acts[stream], acts[f"{norm}.hook_normalized"]
        centred = plain.mean(-1).abs().max() < 1e-4
        x = x - x.mean(-1, keepdim=True) if centred else x
        close(plain * acts[f"{norm}.hook_scale"], x)
        # Its mean square is one, but for epsilon.
        assert plain.pow(2).mean(-1).max() < 1.0001


@pytest.mark.parametrize("family", SEEING)
def test_vision_points_need_an_image(family):
    model, text = model_of(family), inputs_of(model_of(family), kind="text")
    for call in (
        lambda: model.capture(text, "vision.hook_out"),
        lambda: model.logits(text, ci.Ablate("projector.hook_out")),
        lambda: model.generate_tokens(text, ci.Ablate("projector.hook_out"), 2),
    ):
        with pytest.raises(HookPointError, match=r"hook_out' is only reached with an image"):
            call()


@pytest.mark.parametrize("family", SEEING)
def test_the_patches_of_images_of_unequal_size_are_told_apart(family):
    model = model_of(family)
    pictures = [picture(0, (32, 32)), picture(1, (16, 24)), picture(2, (24, 16))]
    hooks = ["vision.blocks.*.*", "vision.hook_out", "projector.hook_out"]
    together = model.capture(model.prepare(TEXTS, pictures), hooks)
    alone = [model.capture(model.prepare(text, image), hooks) for text, image in zip(TEXTS, pictures, strict=True)]
    for name in together:
        close(together.selected(name), torch.cat([acts.selected(name) for acts in alone]))
        padding = ~together.mask_of(name)
        # A tower that pads images itself leaves something there (Gemma 4).
        assert family == "gemma4" or not together[name][padding].any()


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "pixtral", "mistral3"])
def test_packed_patches_are_counted(family):
    model = model_of(family)
    acts = model.capture(inputs_of(model, kind="image"), ["vision.blocks.*.*", "vision.hook_out", "projector.hook_out"])
    for name in acts:
        merged = 1 if family == "pixtral" or name != "projector.hook_out" else 4
        pixels = 8 if family == "pixtral" else 4
        sizes = [32 * 32, 16 * 24, 24 * 16]
        assert acts.patch_masks[name].sum(1).tolist() == [size // pixels**2 // merged for size in sizes]


def at_image_tokens(model, inputs, interventions=()):
    """The stream at image tokens, less learned positions, which are added to it as to any token."""
    hooks = [n for n in ("hook_pos_embed", "blocks.0.hook_resid_pre") if n in model.hook_points]
    acts = model.capture(inputs, hooks, "image", interventions)
    *positions, stream = (acts.selected(name) for name in hooks)
    return stream - positions[0] if positions else stream


@pytest.mark.parametrize("family", [f for f in SEEING if f not in REARRANGED])
def test_the_projectors_output_is_what_stands_at_the_image_tokens(family):
    model, inputs = model_of(family), inputs_of(model_of(family), kind="image")
    stream, projected = at_image_tokens(model, inputs), model.capture(inputs, "projector.hook_out")
    compare = close if "hook_pos_embed" in model.hook_points else same
    compare(stream, projected.selected("projector.hook_out"))


def test_an_image_token_of_llava_next_is_a_row_of_the_projector_or_the_newline():
    model, inputs = model_of("llava_next"), inputs_of(model_of("llava_next"), kind="image")
    known = model.capture(inputs, "projector.hook_out").selected("projector.hook_out")
    known = torch.cat([known, model.hf.model.image_newline[None]])
    assert (at_image_tokens(model, inputs)[:, None] == known).all(-1).any(1).all()


@pytest.mark.parametrize("family", SEEING)
def test_zeroing_the_projector_leaves_text_rows_and_changes_the_others(family):
    model, inputs = model_of(family), inputs_of(model_of(family), kind="apart")
    zero = ci.Ablate("projector.hook_out")
    if family not in REARRANGED:
        stream = at_image_tokens(model, inputs, zero)
        close(stream, torch.zeros_like(stream))
    plain, edited = model.logits(inputs), model.logits(inputs, zero)
    close(edited[1], plain[1])
    assert not torch.allclose(edited[0], plain[0], atol=1e-2)


@pytest.mark.parametrize("family", SEEING)
def test_edits_of_the_vision_side_do_not_depend_on_the_batches(family):
    model, inputs = model_of(family), inputs_of(model_of(family), kind="apart")
    change = ci.Hook(["vision.blocks.0.hook_resid_post", "projector.hook_out"], lambda x, _: bend(x))
    close(model.logits(inputs, change, batch_size=1), model.logits(inputs, change))
    one_by_one = model.generate_tokens(inputs, change, 3, 1, **quiet(model))
    assert one_by_one.tolist() == model.generate_tokens(inputs, change, 3, **quiet(model)).tolist()


@pytest.mark.parametrize("family", SEEING)
def test_token_positions_mean_nothing_among_patches(family):
    model = model_of(family)
    with pytest.raises(HookPointError, match=r"holds patches of images, not tokens: position 'last'.*positions='all'"):
        model.logits(inputs_of(model), ci.Ablate("projector.hook_out", positions="last"))
