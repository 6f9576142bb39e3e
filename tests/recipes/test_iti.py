"""ITI: probes, chosen heads and shifts against the released code's way, in NumPy; edits against bare hooks."""

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.recipes import ITI
from cmrm_interp.recipes.heads import head_probe, head_shift
from tests.oracles import hooks as oracle
from tests.oracles import iti
from tests.support import model_of, picture, twin_of, unchecked

HARMFUL = ["how do i make a zorp ?", "tell me how to build a blat", "steps to hurt a cat", "make me a zorp", "hurt it"]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please", "what is in the picture ?", "bake bread", "a cat ?"]
PICTURES = [picture(seed) for seed in range(10)]
TEXTS = ci.Anchors(HARMFUL, HARMLESS)
SHOWN = TEXTS.with_images(PICTURES)


def heads(model, family, prompts, images):
    """Outputs of all heads at the last token: ``n layer head d``."""
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.n_layers)]
    rows = []
    for text, image in zip(prompts, images, strict=True):
        acts = oracle.read(twin_of(family), model.prepare(text, image).tensors, wanted=names)
        rows.append(torch.stack([acts[name][0, -1] for name in names]))
    return torch.stack(rows).double().numpy()


def held(n, share=0.2, seed=0):
    return np.random.default_rng(seed).permutation(n)[: max(round(share * n), 1)]


@pytest.mark.parametrize(("family", "contrast"), [("llava", "image"), ("qwen2_vl", "request"), ("llama", "request")])
@pytest.mark.parametrize("direction", ["mean", "probe"])
def test_heads_and_shifts_are_those_of_the_released_code(family, contrast, direction):
    model = model_of(family)
    recipe = ITI(heads=5, contrast=contrast, direction=direction, held_out=0.4)
    found = recipe.fit(model, SHOWN if contrast == "image" else TEXTS)
    positive = heads(model, family, HARMFUL, [None] * 5)
    images = [None] * 5 if contrast == "request" else PICTURES[:5]
    negative = heads(model, family, HARMLESS if contrast == "request" else HARMFUL, images)
    wanted, accuracies = iti.interventions(positive, negative, [held(5, 0.4)] * 2, 5, direction == "probe")
    np.testing.assert_allclose(found.accuracies.numpy(), accuracies, atol=1e-6)
    got = {
        (ci.hooks.layer_of(hook), head): rows[head].numpy()
        for hook, rows in found.shift.items()
        for head in range(len(rows))
        if rows[head].any()
    }
    assert got.keys() == wanted.keys()
    for at, shift in wanted.items():
        np.testing.assert_allclose(got[at], shift, rtol=5e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["llava", "llama"])
def test_chosen_heads_are_moved_at_the_last_token_of_every_step(family):
    model = model_of(family)
    recipe = ITI(alpha=60.0, heads=4).fit(model, TEXTS)
    inputs = model.prepare(["what is it ?", "how do i make a pie ?"])

    def edit(shift):
        def at_last(x):
            x = x.clone()
            x[:, -1] += 60.0 * shift
            return x

        return at_last

    edits = {hook: edit(shift) for hook, shift in recipe.shift.items()}
    wanted = oracle.generate(twin_of(family), inputs.tensors, 5, edits)[0].tolist()
    got = model.generate_tokens(inputs, recipe.interventions(model, inputs), 5).tolist()
    assert got == wanted != model.generate_tokens(inputs, max_new_tokens=5).tolist()


def test_a_head_that_tells_is_found_among_those_that_do_not():
    rng = np.random.default_rng(0)
    y, held_out = np.repeat([True, False], 40), np.arange(80) % 4 == 0
    z = rng.normal(size=(80, 6))
    assert head_probe(z + 3 * y[:, None], y, held_out)[1] == 1.0
    assert head_probe(z, y, held_out)[1] < 0.8
    shift = head_shift(z + 3 * y[:, None], y)
    np.testing.assert_allclose(shift / np.linalg.norm(shift), np.full(6, 6**-0.5), atol=0.15)


def test_the_papers_share_of_heads():
    model = model_of("llama")
    assert sum(int(rows.any(1).sum()) for rows in ITI().fit(model, TEXTS).shift.values()) == 1
    assert ITI.grid(model)["contrast"] == ["request"] != ITI.grid(model_of("llava"))["contrast"]


def test_what_cannot_be_is_refused():
    model, one = model_of("llava"), ci.Anchors(["hurt a cat"], ["bake bread", "a dog ?"])
    same = ci.Anchors(HARMFUL, HARMFUL)
    for act, error, words in (
        (lambda: ITI(heads=0), InputError, "ITI moves heads=0: give a positive number"),
        (lambda: ITI(held_out=1.0), InputError, "held_out=1.0 is a share of the anchors"),
        (lambda: ITI(heads=999).fit(model, TEXTS), InputError, "is to move 999 heads, and .* has 16"),
        (lambda: ITI().fit(model, one), InputError, "a class of 1 anchor: two at least"),
        (lambda: ITI().fit(model, same), InputError, "head .* has the same mean in both classes"),
        (lambda: ITI(contrast="image").fit(model, TEXTS), InputError, "10 of the 10 anchors have none"),
        (lambda: ITI(contrast="image").fit(model_of("llama"), TEXTS), ModelError, "ITI is about images"),
    ):
        with pytest.raises(error, match=words):
            act()
    with unchecked(), pytest.raises(InputError, match="ITI has no direction='pca': use 'mean' or 'probe'"):
        ITI(direction="pca")
