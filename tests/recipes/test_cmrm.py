"""CMRM: what is fitted, what is subtracted where, what is remembered, what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, ImageError, InputError, MismatchError, StoreError
from cmrm_interp.families import tiny
from cmrm_interp.interventions import Gate
from tests.support import unchecked

CMRM = ci.recipes.CMRM
ANCHORS = ["what is in the picture ?", "tell me about cats and dogs", "how do i make a cake please"]
ASKED = ["describe this image", "are you kind ?"]
HOOKS = "blocks.*.hook_resid_post"


def picture(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (28, 36, 3), dtype=np.uint8))


@pytest.fixture(scope="module", params=["llava", "qwen2_vl"])
def model(request):
    return ci.load(tiny(request.param))


@pytest.fixture
def inputs(model):
    return model.prepare(ASKED, [picture(1), picture(2)])


def by_hand(model, prompts, images):
    """Blank less text at the last token, one prompt after another."""
    rows = []
    for prompt, image in zip(prompts, images, strict=True):
        with_image = model.capture(model.prepare(prompt, image), HOOKS)
        text = model.capture(model.prepare(prompt), HOOKS)
        rows.append({hook: with_image[hook][0] - text[hook][0] for hook in text})
    return {hook: torch.stack([row[hook] for row in rows]) for hook in rows[0]}


def test_the_shift_is_the_mean_over_anchors(model):
    prompts = [ci.Prompt(text, picture(row)) for row, text in enumerate(ANCHORS)]
    shift = CMRM().fit(model, prompts).shift
    blanks = [Image.new("RGB", (36, 28), "white")] * 3
    for hook, rows in by_hand(model, ANCHORS, blanks).items():
        torch.testing.assert_close(shift[hook], rows.mean(0), atol=1e-5, rtol=1e-4)


def test_the_sample_level_takes_each_inputs_own_difference(model, inputs):
    (acting,) = CMRM(level="sample").fit(model).interventions(model, inputs)
    blanks = [Image.new("RGB", (36, 28), "white")] * 2
    for hook, rows in by_hand(model, ASKED, blanks).items():
        torch.testing.assert_close(acting.directions[hook], rows, atol=1e-5, rtol=1e-4)


def test_a_shift_is_a_mean_of_sample_shifts(model):
    asked = model.prepare(ANCHORS, ci.images.blank((36, 28)))
    prompts = [ci.Prompt(text, ci.images.blank((36, 28))) for text in ANCHORS]
    (sample,) = CMRM(level="sample").fit(model).interventions(model, asked)
    dataset = CMRM().fit(model, prompts).shift
    for hook in dataset:
        torch.testing.assert_close(sample.directions[hook].mean(0), dataset[hook], atol=1e-5, rtol=1e-4)


def test_zero_alpha_changes_nothing(model, inputs):
    recipe = CMRM(alpha=0.0).fit(model, ANCHORS)
    assert torch.equal(model.logits(inputs, recipe.interventions(model, inputs)), model.logits(inputs))


def test_incremental_moves_the_stream_by_the_shift_to_first_order(model, inputs):
    live = CMRM().fit(model, ANCHORS).shift
    (acting,) = CMRM(application="incremental").fit(model, ANCHORS).interventions(model, inputs)
    total = sum(acting.directions[hook] for hook in acting.directions)
    torch.testing.assert_close(total, live["blocks.-1.hook_resid_post"], atol=1e-5, rtol=1e-4)


def test_prefill_alone_leaves_new_tokens_be(model, inputs):
    (every,) = CMRM().fit(model, ANCHORS).interventions(model, inputs)
    (prefill,) = CMRM(steps="prefill").fit(model, ANCHORS).interventions(model, inputs)
    assert (every.positions, prefill.positions) == ("last", -1)


def test_chosen_layers_alone_are_edited(model, inputs):
    (acting,) = CMRM(layers=[0, -1]).fit(model, ANCHORS).interventions(model, inputs)
    assert acting.targets(model.hook_points) == ["blocks.0.hook_resid_post", "blocks.3.hook_resid_post"]
    with pytest.raises(HookPointError, match=r"no layer 9: this model has 4 layers \(0-3\)"):
        CMRM(layers=[9]).fit(model, ANCHORS).generate(model, inputs)


def test_the_principal_component_points_along_the_mean(model):
    mean = CMRM().fit(model, ANCHORS).shift
    principal = CMRM(direction="principal").fit(model, ANCHORS).shift
    assert all(cosine > 0.5 for cosine in ci.cosine(mean, principal).values())


def test_rows_without_an_image_stay_as_they_are(model):
    mixed = model.prepare(ASKED, [picture(1), None])
    recipe = CMRM(alpha=2.0).fit(model, ANCHORS)
    (acting,) = recipe.interventions(model, mixed)
    assert isinstance(acting, Gate)
    moved = (model.logits(mixed, acting) != model.logits(mixed)).any(1)
    assert moved.tolist() == [True, False]


def test_another_image_gives_another_shift(model):
    shifts = [CMRM(image=kind).fit(model, ANCHORS).shift for kind in ("blank", "black", "noise")]
    assert shifts[0] != shifts[1]
    assert shifts[1] != shifts[2]
    given = CMRM(image=ci.images.blank((336, 336), "black")).fit(model, ANCHORS).shift
    assert given == shifts[1]


def test_noise_is_the_same_for_the_same_seed(model):
    assert (
        CMRM(image="noise", seed=3).fit(model, ANCHORS).shift == CMRM(image="noise", seed=3).fit(model, ANCHORS).shift
    )


@pytest.mark.parametrize(
    "how", [{}, {"level": "sample", "steps": "prefill"}, {"image": ci.images.blank((8, 8), "grey")}]
)
def test_saved_and_loaded_it_answers_the_same(model, inputs, tmp_path, how):
    recipe = CMRM(alpha=0.7, layers=[1, 2], **how).fit(model, ANCHORS)
    recipe.save(tmp_path / "cmrm.safetensors")
    again = CMRM.load(tmp_path / "cmrm.safetensors")
    assert again.generate(model, inputs, max_new_tokens=4) == recipe.generate(model, inputs, max_new_tokens=4)
    assert (again.alpha, again.layers, again.model) == (0.7, (1, 2), model.fingerprint)


def test_another_model_is_refused(model, inputs, tmp_path):
    recipe = CMRM().fit(ci.load(tiny("llava", seed=7)), ANCHORS)
    recipe.save(tmp_path / "cmrm.safetensors")
    for held in (recipe, CMRM.load(tmp_path / "cmrm.safetensors")):
        with pytest.raises(MismatchError, match=r"fitted on another model .* fit it again"):
            held.generate(model, inputs)


def test_the_random_control_has_the_same_norms(model):
    recipe = CMRM().fit(model, ANCHORS)
    random = recipe.randomised(seed=1)
    for hook, norm in recipe.shift.norms().items():
        torch.testing.assert_close(random.shift.norms()[hook], norm)
    assert random.shift == recipe.randomised(seed=1).shift
    assert random.shift != recipe.randomised(seed=2).shift


def test_what_cannot_be_is_refused(model, inputs):
    with pytest.raises(InputError, match=r"not fitted: call \.fit"):
        CMRM().interventions(model, inputs)
    with pytest.raises(InputError, match="no anchors"):
        CMRM().fit(model, [])
    with unchecked(), pytest.raises(InputError, match="no level='token': use 'dataset' or 'sample'"):
        CMRM(level="token")
    with pytest.raises(InputError, match="no image kind 'blnk': did you mean 'blank'"):
        CMRM(image="blnk")
    with pytest.raises(ImageError, match="prompt 0 has none"):
        CMRM(image="blur").fit(model, ANCHORS)
    with pytest.raises(InputError, match="have no prompts"):
        CMRM(level="sample").fit(model).interventions(model, model.from_encoding(inputs.tensors))
    with pytest.raises(InputError, match="alpha is nan"):
        CMRM(alpha=float("nan")).fit(model, ANCHORS).interventions(model, inputs)


def test_a_file_of_something_else_is_refused(model, tmp_path):
    CMRM().fit(model, ANCHORS).shift.save(tmp_path / "shift.safetensors")
    with pytest.raises(StoreError, match="directions"):
        CMRM.load(tmp_path / "shift.safetensors")
