"""Every hook point of every family, read and written, in a forward and in every generation step: against the oracle."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.running import patch_mask
from tests.oracles import hooks as oracle
from tests.support import (
    APART,
    FAMILIES,
    SIDES,
    TEXTS,
    VISION,
    close,
    inputs_of,
    model_of,
    picture,
    quiet,
    twin_of,
    unequal,
)

WRITES = [(family, kind) for family in FAMILIES for kind in ("text", "image") if kind == "text" or family in VISION]
# Their processors take one image a prompt, or their tiny templates put nothing between two.
ONE_IMAGE = ("blip_2", "instructblip", "llava_next", "llava_onevision")
# What a change cannot be felt at: towers whose last block is not used, and scales of what is normed again.
UNFELT = {
    "llava": "vision.blocks.2.",
    "llava_next": "vision.blocks.2.",
    "gemma4": tuple(f"blocks.{i}.ln1.hook_scale" for i in range(4)),
    "mllama": ("blocks.1.ln1.hook_scale", "blocks.3.ln1.hook_scale"),
}
# A norm after a product of embeddings, some of which are small, magnifies rounding.
SLACK = {"blocks.2.hook_per_layer_out": 4.0}
# All images are one sequence there, whose attention grows with its square: smaller pictures.
ONE_SEQUENCE = ("mistral3", "pixtral")


def kinds(family):
    """Kinds of prompts that share a batch in a family."""
    if family not in VISION:
        return ("text",)
    return ("text", "image") if family in APART else ("text", "image", "mixed")


def bend(x):
    """A change that is no symmetry of anything: scale, offset, and unequal over the last axis, or over positions."""
    if x.shape[-1] == 1:
        return x * torch.linspace(0.8, 1.6, x.shape[-2])[:, None]
    return 0.8 * x + 0.1 * torch.linspace(-1, 2, x.shape[-1])


class EachInItsRow:
    """A batch in which each hook point is changed in a row of its own; the first row stays as it is."""

    def __init__(self, model, family, kind, side):
        self.names = oracle.names(twin_of(family), kind == "image")
        self.n = len(self.names) + 1
        image = picture(0, (16, 16) if family in ONE_SEQUENCE else (32, 32)) if kind == "image" else None
        self.inputs = model.prepare([TEXTS[row % 3] for row in range(self.n)], image, padding_side=side)
        self.edits = {name: self.edit(row) for row, name in enumerate(self.names, start=1)}
        self.hook = ci.Hook(self.names, lambda x, name: self.edits[name](x))

    def edit(self, row):
        """Changes what belongs to one prompt: a row, or the patches of an image."""

        def fn(x):
            split = x.unflatten(0, (self.n, -1)).clone()
            split[row] = bend(split[row])
            return split.flatten(0, 1)

        return fn


def faults_of(got, wanted, what=""):
    """Lines about hook points whose activations differ."""
    slack = [(name, SLACK.get(name, 1.0)) for name in wanted]
    return [f"{what} {name}: {fault}" for name, s in slack if (fault := unequal(got(name), wanted[name], s))]


def patches(model, tensors, name, x):
    """A point's activation; real patches of the vision side in one row, as the oracle gives them."""
    point = model.network.points[name]
    return x[patch_mask(point, tensors, x.shape)] if point.is_vision else x


def capped(model, x):
    """Logits from what the head gives: Gemma 2 and 4 bend them."""
    cap = oracle.softcap(model.hf)
    return x if cap is None else cap * torch.tanh(x / cap)


def recorder():
    seen = {}
    return seen, lambda x, name: seen.setdefault(name, []).append(x.clone())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_hook_points_are_those_of_the_specification(family):
    model, twin = model_of(family), twin_of(family)
    assert sorted(model.hook_points) == oracle.names(twin)
    for kind in kinds(family):
        passed = model.network.names(inputs_of(model, kind=kind).tensors)
        assert sorted(passed) == oracle.names(twin, kind != "text")


ORDER = ["hook_resid_pre", "ln1.hook_scale", "ln1.hook_normalized", "attn.hook_q", "attn.hook_attn_scores",
         "attn.hook_pattern", "attn.hook_z", "attn.hook_result", "attn.hook_out", "hook_attn_out", "hook_resid_mid",
         "ln2.hook_scale", "ln2.hook_normalized", "mlp.hook_router", "mlp.hook_pre", "mlp.hook_post", "mlp.hook_out",
         "hook_mlp_out", "hook_per_layer_out", "hook_resid_post"]  # fmt: skip
OUTSIDE = ["hook_embed", "ln_final.hook_scale", "ln_final.hook_normalized", "ln_final.hook_out", "unembed.hook_out"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_hook_points_are_in_forward_order(family):
    names = [name.replace("cross_attn.", "attn.") for name in model_of(family).hook_points]
    blocks = [f"blocks.{i}.{name}" for i in range(model_of(family).n_layers) for name in ORDER]
    assert [n for n in names if n in {*blocks, *OUTSIDE}] == [
        n for n in [OUTSIDE[0], *blocks, *OUTSIDE[1:]] if n in names
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_capture_reads_what_forward_hooks_read(family):
    model, faults = model_of(family), []
    for kind in kinds(family):
        for side in SIDES:
            inputs = inputs_of(model, side, kind)
            wanted = oracle.read(twin_of(family), inputs.tensors)
            got = model.capture(inputs, list(wanted), positions="all")
            assert list(got) == [name for name in model.hook_points if name in wanted]
            faults += faults_of(
                lambda n, got=got: got.selected(n) if n in got.patch_masks else got[n], wanted, f"{kind} {side}"
            )
    assert not faults


@pytest.mark.parametrize(("family", "kind"), WRITES)
def test_a_write_does_in_a_forward_what_the_name_says(family, kind):
    model, twin = model_of(family), twin_of(family)
    each = EachInItsRow(model, family, kind, "right" if kind == "text" else "left")
    tensors = each.inputs.tensors
    wanted, wanted_logits = oracle.run(twin, tensors, each.edits)
    got = model.logits(each.inputs, each.hook, positions="all", batch_size=each.n)
    rows = ["the row without a change", *each.names]
    faults = [
        f"{name}: logits {fault}"
        for name, a, b in zip(rows, got, wanted_logits, strict=True)
        if (fault := unequal(a, b))
    ]
    acts = model.capture(each.inputs, each.names, "all", each.hook, batch_size=each.n)
    faults += faults_of(lambda n: patches(model, tensors, n, acts[n]), wanted, "after the writes,")
    assert not faults
    plain = oracle.logits(twin, tensors)
    still = {name for name, a, b in zip(rows, wanted_logits, plain, strict=True) if torch.allclose(a, b, atol=1e-4)}
    assert still == {name for name in rows if name.startswith(UNFELT.get(family, "nowhere"))} | {rows[0]}


@pytest.mark.parametrize(("family", "kind"), WRITES)
def test_a_write_and_a_read_do_it_in_every_generation_step(family, kind):
    model = model_of(family)
    each = EachInItsRow(model, family, kind, "left")
    tensors, how = each.inputs.tensors, quiet(model)
    seen, record = recorder()
    tokens = model.generate_tokens(each.inputs, [each.hook, ci.Hook(each.names, record)], 3, each.n, **how)
    wanted, wanted_logits, kept = oracle.generate(twin_of(family), tensors, 3, each.edits, each.names, **how)
    rows = ["the row without a change", *each.names]
    faults = [f"{name}: tokens" for name, a, b in zip(rows, tokens, wanted, strict=True) if a.tolist() != b.tolist()]
    close(capped(model, torch.stack([x[:, -1] for x in seen["unembed.hook_out"]], 1)), wanted_logits)
    for name in each.names:
        steps = [step[name] for step in kept if name in step]
        assert len(steps) == len(seen[name]) == (1 if model.network.points[name].is_vision else 3), name
        for number, (mine, theirs) in enumerate(zip(seen[name], steps, strict=True)):
            faults += faults_of(lambda n, x=mine: patches(model, tensors, n, x), {name: theirs}, f"step {number}")
    assert not faults


@pytest.mark.parametrize("family", VISION)
def test_a_write_among_images_of_unequal_size(family):
    """Two images in one prompt where the family can, and every point of the vision side changed at once."""
    model, twin = model_of(family), twin_of(family)
    small, tall, wide = (picture(seed, size) for seed, size in enumerate([(32, 32), (16, 24), (24, 16)]))
    several = [[small, wide], [tall, small]] if family not in ONE_IMAGE else [small, tall]
    inputs = model.prepare([ci.Prompt(text, image) for text, image in zip(TEXTS, several, strict=False)])
    names = [name for name in oracle.names(twin) if model.network.points[name].is_vision]
    wanted, wanted_logits = oracle.run(twin, inputs.tensors, dict.fromkeys(names, bend))
    bending = ci.Hook(names, lambda x, _: bend(x))
    close(model.logits(inputs, bending, positions="all"), wanted_logits)
    acts = model.capture(inputs, names, "all", bending)
    assert not faults_of(acts.selected, {name: wanted[name] for name in names})
