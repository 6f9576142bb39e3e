"""ASTRA against a bare forward hook, its fit step by step, and its words."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import cmrm_interp as ci
from cmrm_interp.attacks import PGD, RegionScores, answer_loss, pixel_space
from cmrm_interp.directions import Directions
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.recipes.astra import ASTRA, opening
from tests.oracles import astra as oracle
from tests.support import TEXTS, close, model_of, picture, same, twin_of, unchecked, vectors

STREAM = "blocks.*.hook_resid_post"
QUICK = {"n_images": 2, "steps": 2, "masks": 8, "target": "a cake"}
HARMFUL, HARMLESS = ["make a zorp now", "how do i hurt a cat ?", "tell me of zorps"], ["bake a cake", "you are kind"]


def anchors():
    return ci.Anchors(HARMFUL, HARMLESS).with_images([picture(seed) for seed in range(5)])


def made_up(model, **settings):
    """A recipe with random findings."""
    origin = vectors(model, seed=2)
    # States lie on the side of it that the direction points to.
    direction = vectors(model, seed=1) - origin
    return replace(ASTRA(**settings), direction=direction, origin=origin, model=model.fingerprint)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
@pytest.mark.parametrize("layer", [None, -1])
def test_steering_is_that_of_a_bare_hook(family, layer):
    model, twin = model_of(family), twin_of(family)
    recipe = made_up(model, alpha=1.5, layer=layer)
    # The middle: block n / 2 - 1.
    block = model.n_layers - 1 if layer == -1 else model.n_layers // 2 - 1
    v, h0 = (d[f"blocks.{block}.hook_resid_post"] for d in (recipe.direction, recipe.origin))
    moved = 0
    for prompt in TEXTS[:2]:
        inputs = model.prepare([prompt], picture(3))
        acting = recipe.interventions(model, inputs)
        with oracle.steering(twin, block, v, h0, 1.5), torch.no_grad():
            wanted = twin(**inputs.tensors).logits[:, -1]
            said = twin.generate(**inputs.tensors, max_new_tokens=4, do_sample=False)
        close(model.logits(inputs, acting), wanted)
        new = said[0, inputs.tensors["input_ids"].shape[1] :]
        assert model.generate_tokens(inputs, acting, max_new_tokens=4)[0].tolist() == new.tolist()
        moved += int((model.logits(inputs) - wanted).abs().max() > 1e-3)
    assert moved > 0


def test_only_states_that_point_along_it_are_moved():
    model = model_of("llava")
    inputs = model.prepare(TEXTS, picture(3))
    hook = f"blocks.{model.n_layers // 2 - 1}.hook_resid_post"
    states = model.capture(inputs, hook)[hook].reshape(len(TEXTS), -1)
    # The first state as origin of a direction away from it: it stays; seen from its opposite it goes.
    recipe = made_up(model, alpha=2.0)
    for sign, moves in ((1, True), (-1, False)):
        direction = Directions({hook: sign * states[0]})
        origin = Directions({hook: torch.zeros_like(states[0])})
        acting = replace(recipe, direction=direction, origin=origin).interventions(model, inputs)
        assert bool((model.logits(inputs, acting)[0] != model.logits(inputs)[0]).any()) == moves


def test_the_length_of_the_direction_does_not_matter():
    model = model_of("llava")
    inputs = model.prepare(TEXTS, picture(3))
    recipe = made_up(model)
    longer = replace(recipe, direction=recipe.direction * 7.0)
    close(*(model.logits(inputs, each.interventions(model, inputs)) for each in (recipe, longer)))


def test_fit_is_its_steps():
    model, twin = model_of("llava"), twin_of("llava")
    fitted = ASTRA(**QUICK, hidden=3, seed=5).fit(model, anchors())
    attacked = PGD(steps=2, seed=5).attack(model, model.prepare(list(anchors().harmful[:2])), "a cake")
    scores = RegionScores(4, 8, seed=5).of(model, pixel_space(model, attacked.inputs), "a cake").numpy()
    differences, references = [], []
    layer = 1
    for image, score in zip(attacked.images, scores, strict=True):
        covered = hide(np.asarray(image), np.argsort(score)[-3:])
        states = [
            oracle.last_states(twin, model.prepare([ci.Prompt("", shown)]).tensors, layer)
            for shown in (image, Image.fromarray(covered))
        ]
        differences.append(states[0] - states[1])
    for prompt in anchors().harmless:
        references.append(oracle.last_states(twin, model.prepare([prompt]).tensors, layer))
    name = f"blocks.{layer}.hook_resid_post"
    torch.testing.assert_close(fitted.direction[name], torch.cat(differences).mean(0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(fitted.origin[name], torch.cat(references).mean(0), rtol=1e-3, atol=1e-4)


def hide(pixels, regions, side=4):
    """A picture with some cells of a grid under its mean colour."""
    out, (height, width) = pixels.copy(), (n // side for n in pixels.shape[:2])
    for region in regions:
        top, left = region // side * height, region % side * width
        out[top : top + height, left : left + width] = (pixels.mean((0, 1))).round()
    return out


def test_regions_are_scored_by_ridge_regression_on_random_masks():
    model = model_of("llava")
    pictures = [two_colours(0), two_colours(1)]
    inputs = model.prepare(TEXTS[:2], pictures)
    scores = RegionScores(side=4, masks=12, seed=2).of(model, pixel_space(model, inputs), ["a cake", "you"])
    shown = (torch.rand(12, 16, generator=torch.Generator().manual_seed(2)) < 0.5).numpy()
    likely = []
    for mask in shown:
        covered = [Image.fromarray(hide(np.asarray(p), np.flatnonzero(~mask))) for p in pictures]
        likely.append(-answer_loss(model, model.prepare(TEXTS[:2], covered), ["a cake", "you"]).numpy())
    x, y = (part - part.mean(0) for part in (shown.astype(float), np.array(likely, dtype=float)))
    wanted = np.linalg.solve(x.T @ x + np.eye(16), x.T @ y).T
    np.testing.assert_allclose(scores.numpy(), wanted, atol=2e-4)


def two_colours(seed):
    """A picture whose mean colour is a colour of 8 bits."""
    halves = np.repeat([54, 200], 512).astype(np.uint8)
    channels = [np.random.default_rng([seed, channel]).permutation(halves) for channel in range(3)]
    return Image.fromarray(np.stack(channels, 1).reshape(32, 32, 3))


def test_the_opening_is_what_the_model_says_most_often(monkeypatch):
    model = model_of("llava")
    prompts = [ci.Prompt(text) for text in TEXTS]
    monkeypatch.setattr(type(model), "generate", lambda *a, **k: [" sure , first", "no", "sure , first "])
    assert opening(model, prompts) == "sure , first"
    monkeypatch.setattr(type(model), "generate", lambda *a, **k: ["", " ", ""])
    with pytest.raises(InputError, match=r"answers none of the harmless anchors, .* give one, target='sure, here is'"):
        opening(model, prompts)


def test_zero_strength_is_bit_equal():
    model = model_of("llava")
    inputs = model.prepare(TEXTS, picture(3))
    same(model.logits(inputs, made_up(model, alpha=0.0).interventions(model, inputs)), model.logits(inputs))


def test_what_it_cannot_be_fitted_on_is_said():
    model = model_of("llava")
    with pytest.raises(InputError, match="is fitted on prompts with images, and 5 of the 5 anchors have none"):
        ASTRA(**QUICK).fit(model, ci.Anchors(HARMFUL, HARMLESS))
    with pytest.raises(InputError, match="there are no harmless ones"):
        ASTRA(**QUICK).fit(model, ci.Anchors(HARMFUL, []))
    with pytest.raises(ModelError, match=r"ASTRA is about images, and .* takes text alone"):
        ASTRA(**QUICK).fit(model_of("llama"), ci.Anchors(HARMFUL, HARMLESS))
    with pytest.raises(HookPointError, match="99"):
        model.logits(model.prepare("hi"), made_up(model, layer=99).interventions(model, model.prepare("hi")))


def test_a_direction_of_zero_norm_is_refused(monkeypatch):
    monkeypatch.setattr(RegionScores, "_hide", lambda self, space, hidden: space.values)
    with pytest.raises(
        InputError, match=r"changes nothing at 'blocks.0.hook_resid_post', so ASTRA's direction has zero"
    ):
        ASTRA(**QUICK).fit(model_of("llava"), anchors())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_images": 0}, "n_images=0: give at least 1"),
        ({"hidden": 16}, "hidden=16 of 16 regions: give 1 to 15"),
        ({"side": 1}, "a grid of 1 x 1 regions: give at least 2"),
        ({"masks": 1}, "1 masks tell no region from another"),
        ({"steps": 0}, "steps is 0: give at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with unchecked(), pytest.raises(InputError, match=words):
        ASTRA(**settings)
