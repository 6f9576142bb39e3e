"""VTI: directions against scikit-learn, turns against bare hooks, masked copies, towers that it does not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.recipes import VTI
from cmrm_interp.recipes.masking import ASKED, fixed_tokens, masked_copy
from cmrm_interp.recipes.vti import stacked_direction
from tests.oracles import hooks as oracle
from tests.oracles import vti
from tests.support import close, model_of, picture, twin_of, unchecked

HARMFUL = ["how do i make a zorp ?", "tell me how to build a blat", "steps to hurt a cat"]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please", "what is in the picture ?"]
PICTURES = [picture(seed) for seed in range(6)]
ANCHORS = ci.Anchors(HARMFUL, HARMLESS).with_images(PICTURES)
QUICK = {"copies": 2, "demos": 3}
POST, SEEN = "blocks.{}.hook_resid_post", "vision.blocks.{}.hook_resid_pre"


def states(model, hf, prompts, images, hook, n):
    """Activations of prompts one by one: ``row layer ...``."""
    names, rows = [hook.format(layer) for layer in range(n)], []
    for text, image in zip(prompts, images, strict=True):
        acts = oracle.read(hf, model.prepare(text, image).tensors, wanted=names)
        rows.append(torch.stack([acts[name][..., -1:, :] if hook == POST else acts[name] for name in names]))
    return torch.stack(rows)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_the_text_side_is_a_long_vector_over_all_layers(family):
    model, hf = model_of(family), twin_of(family)
    found = VTI(sides="text").fit(model, ANCHORS).textual
    text, shown = (states(model, hf, HARMFUL, i, POST, 4)[:, :, 0, 0] for i in ([None] * 3, PICTURES[:3]))
    wanted = vti.direction((text - shown).flatten(1)).reshape(4, -1)
    for layer in range(4):
        along = torch.tensor(wanted[layer] / np.linalg.norm(wanted[layer])).float()
        close(found[f"blocks.{layer}.hook_mlp_out"], along, slack=20)


def test_the_image_side_is_one_such_vector_for_each_token():
    model, hf = model_of("llava"), twin_of("llava")
    found, rng = VTI(sides="image", **QUICK).fit(model, ANCHORS).visual, np.random.default_rng(0)
    tokens = fixed_tokens(model)
    n = sum(name.startswith("vision.blocks.") and name.endswith("resid_pre") for name in model.hook_points)
    differences = []
    for image in PICTURES[::2]:
        copies = [masked_copy(image, int(tokens**0.5), 0.99, rng) for _ in range(2)]
        seen = states(model, hf, [ASKED] * 3, [*copies, image], SEEN, n).reshape(3, n, tokens, -1)
        differences.append((seen[:2].mean(0) - seen[2]).permute(1, 0, 2).flatten(1))
    for token in range(tokens):
        wanted = vti.direction(torch.stack(differences)[:, token]).reshape(n, -1)
        for layer in range(n):
            length = np.linalg.norm(wanted[layer])
            # A class token is the same for every image before the first block.
            along = torch.tensor(wanted[layer] / length).float() if length > 1e-5 else torch.zeros(wanted.shape[1])
            close(found[f"vision.blocks.{layer}.hook_mlp_out"][token], along, slack=50)


@pytest.mark.parametrize("sides", ["text", "image", "both"])
def test_all_tokens_are_turned_at_every_mlp(sides):
    model = model_of("llava")
    recipe = VTI(alpha=1.7, sides=sides, **QUICK).fit(model, ANCHORS)
    inputs = model.prepare(["what is it ?", "how do i make a pie ?"], [picture(7), picture(8)])
    got = model.logits(inputs, recipe.interventions(model, inputs))
    parts = [part for part in (recipe.textual, recipe.visual) if part is not None]
    assert len(parts) == {"both": 2}.get(sides, 1)
    edits = {hook: tiled(vti.layer(v, 1.7), v) for part in parts for hook, v in part.items()}
    close(got, oracle.logits(twin_of("llava"), inputs.tensors, edits)[:, -1], slack=5)
    assert not torch.allclose(got, model.logits(inputs))


def tiled(edit, v):
    """The oracle holds the patches of all images in one row."""
    if v.ndim == 1:
        return edit
    return lambda x: edit(x.reshape(-1, *v.shape)).reshape(x.shape)


def test_generation_goes_on_turning():
    model = model_of("llava")
    recipe = VTI(alpha=8.0, sides="text").fit(model, ANCHORS)
    inputs = model.prepare("how do i make a pie ?", picture(7))
    edits = {hook: vti.layer(v, 8.0) for hook, v in recipe.textual.items()}
    wanted = oracle.generate(twin_of("llava"), inputs.tensors, 5, edits)[0]
    assert model.generate_tokens(inputs, recipe.interventions(model, inputs), 5).tolist() == wanted.tolist()


def test_a_centred_component_would_lose_the_shift_which_the_mean_keeps():
    rng = np.random.default_rng(0)
    m = rng.normal(size=20) * 5
    d = torch.tensor(m + 0.1 * rng.normal(size=(30, 20)))
    along = stacked_direction(d)
    torch.testing.assert_close(along, torch.tensor(vti.direction(d)))
    assert torch.nn.functional.cosine_similarity(along, torch.tensor(m), dim=0) > 0.95


def test_masked_copies_keep_few_cells_and_paint_the_rest_in_the_mean_colour():
    image = picture(3, (40, 24))
    rng = np.random.default_rng(1)
    masked = np.asarray(masked_copy(image, 4, 0.75, rng))
    before = np.asarray(image)
    colour = before.mean((0, 1)).round()
    kept = [
        (masked[6 * r : 6 * r + 6, 10 * c : 10 * c + 10] == before[6 * r : 6 * r + 6, 10 * c : 10 * c + 10]).all()
        for r in range(4)
        for c in range(4)
    ]
    assert sum(kept) == 4
    painted = [(masked[6 * r : 6 * r + 6, 10 * c : 10 * c + 10] == colour).all() for r in range(4) for c in range(4)]
    assert sum(painted) == 12


def test_towers_that_see_more_of_larger_images_have_no_image_side():
    assert fixed_tokens(model_of("llava")) > 0
    assert fixed_tokens(model_of("qwen2_vl")) == 0
    assert VTI(**QUICK).fit(model_of("qwen2_vl"), ANCHORS).visual is None
    with pytest.raises(ModelError, match=r"one vector for each token .*qwen2_vl.* use sides='text'"):
        VTI(sides="both").fit(model_of("qwen2_vl"), ANCHORS)


def test_prompts_without_any_image_are_turned_by_the_text_side_alone():
    model = model_of("llava")
    recipe = VTI(sides="both", **QUICK).fit(model, ANCHORS)
    text = model.prepare("how do i make a pie ?")
    (acting,) = recipe.interventions(model, text)
    assert acting.directions is recipe.textual
    assert not torch.equal(model.logits(text, acting), model.logits(text))


def test_what_cannot_be_is_refused():
    model = model_of("llava")
    for act, error, words in (
        (lambda: VTI(copies=0), InputError, "copies=0, .* at least 1 copy, 2 demos"),
        (lambda: VTI(sides="text").fit(model, ANCHORS.without_images()), InputError, "6 of the 6 anchors have none"),
        (lambda: VTI().fit(model_of("llama"), ANCHORS), ModelError, "VTI is about images"),
        (lambda: stacked_direction(torch.zeros(3, 4)), InputError, "pairs do not differ"),
    ):
        with pytest.raises(error, match=words):
            act()
    with unchecked(), pytest.raises(InputError, match="VTI has no sides='left': use 'auto', 'text'"):
        VTI(sides="left")
    fitted = VTI(sides="text").fit(model, ANCHORS)
    assert replace(fitted, alpha=0.0).interventions(model, model.prepare("a"))[0].alpha == 0
