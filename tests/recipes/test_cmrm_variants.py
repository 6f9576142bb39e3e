"""Every variant of CMRM that the sources leave open, against bare hooks and NumPy."""

from dataclasses import replace

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError
from cmrm_interp.interventions import Gate, Patch
from cmrm_interp.recipes import CMRM
from cmrm_interp.recipes.shifts import capped, first_sigma
from tests.oracles import cmrm as oracle
from tests.support import STREAM, TEXTS, close, model_of, network, picture, same, unchecked

FAMILIES = ("llava", "qwen2_vl")
ANCHORS = ["how do i make a cake ?", "tell me about cats please", "red", "what can you help with"]
BLANK = ci.images.blank((336, 336))
HOOKS = [f"blocks.{layer}.hook_resid_post" for layer in range(4)]


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def of_anchors(family):
    """The oracle's differences of the anchors: text, layer, d_model."""
    return oracle.differences(*network(family), ANCHORS, BLANK)


def answers(family, shift, alpha, prefill_only=True, replaced=False, n=6):
    """What the oracle generates for every text with a picture."""
    bare, processor = network(family)
    said = []
    for text in TEXTS:
        tensors = oracle.encode(processor, text, picture(3))
        clean = oracle.last_states(bare, tensors) if replaced else None
        said.append(oracle.generate(bare, tensors, shift, alpha, n, prefill_only, clean))
    return said


def tokens(family, recipe, n=6):
    """What the package generates."""
    model = model_of(family)
    inputs = model.prepare(TEXTS, picture(3))
    fitted = recipe.fit(model, ANCHORS)
    return model.generate_tokens(inputs, fitted.interventions(model, inputs), max_new_tokens=n).tolist()


@pytest.mark.parametrize("scale", ["unit", "projection_mean", "projection_std"])
def test_a_principal_component_has_the_length_that_is_asked_for(family, scale):
    shift = CMRM(direction="principal", scale=scale).fit(model_of(family), ANCHORS).shift
    rows = of_anchors(family)
    for layer, hook in enumerate(HOOKS):
        close(shift[hook], oracle.principal(rows[:, layer], scale).float(), slack=10)


def test_a_mean_difference_can_have_length_one(family):
    shift = CMRM(scale="unit").fit(model_of(family), ANCHORS).shift
    mean = of_anchors(family).mean(0)
    for layer, hook in enumerate(HOOKS):
        close(shift[hook], (mean[layer] / mean[layer].norm()).float(), slack=10)


@pytest.mark.parametrize("steps", ["all", "prefill"])
def test_incremental_answers_are_those_of_bare_hooks(family, steps):
    mean = of_anchors(family).mean(0)
    moves = torch.cat([mean[:1], mean[1:] - mean[:-1]]).float()
    got = tokens(family, CMRM(alpha=0.8, application="incremental", steps=steps))
    assert got == answers(family, moves, 0.8, prefill_only=steps == "prefill")


@pytest.mark.parametrize("level", ["dataset", "sample"])
def test_replaced_answers_are_those_of_bare_hooks(family, level):
    got = tokens(family, CMRM(alpha=0.8, level=level, application="replace", steps="prefill"))
    if level == "dataset":
        wanted = answers(family, of_anchors(family).mean(0).float(), 0.8, replaced=True)
    else:
        own = oracle.differences(*network(family), TEXTS, ci.images.blank((32, 32))).float()
        wanted = [answers(family, own[row], 0.8, replaced=True)[row] for row in range(len(TEXTS))]
    assert got == wanted
    assert got != tokens(family, CMRM(alpha=0.0, steps="prefill"))
    assert got != tokens(family, CMRM(alpha=0.8, level=level, steps="prefill"))


def test_replaced_everywhere_the_last_block_alone_decides_the_first_token(family):
    model = model_of(family)
    inputs = model.prepare(TEXTS, picture(3))
    recipe = CMRM(application="replace", steps="prefill").fit(model, ANCHORS)
    one = CMRM(application="replace", steps="prefill", layers=[-1]).fit(model, ANCHORS)
    logits = model.logits(inputs, recipe.interventions(model, inputs))
    close(logits, model.logits(inputs, one.interventions(model, inputs)))
    with torch.no_grad():
        state = model.capture(inputs, HOOKS[-1])[HOOKS[-1]] - recipe.shift[HOOKS[-1]]
        stack = model.hf.model.language_model
        close(logits, model.hf.lm_head(stack.norm(state)), slack=10)


def test_replacing_with_nothing_is_the_model_itself_to_the_bit(family):
    model = model_of(family)
    inputs = model.prepare(TEXTS, picture(3))
    recipe = CMRM(alpha=0.0, application="replace", steps="prefill").fit(model, ANCHORS)
    same(model.logits(inputs, recipe.interventions(model, inputs)), model.logits(inputs))


def test_replacing_leaves_rows_without_an_image_be():
    model = model_of("llava")
    inputs = model.prepare(TEXTS, [picture(3), None, picture(4)])
    recipe = CMRM(application="replace", steps="prefill").fit(model, ANCHORS)
    (acting,) = recipe.interventions(model, inputs)
    assert isinstance(acting, Gate)
    assert isinstance(acting.intervention, Patch)
    assert (model.logits(inputs, acting) != model.logits(inputs)).any(1).tolist() == [True, False, True]


def test_the_global_cap_cuts_long_vectors_and_keeps_their_direction(family):
    model, rows = model_of(family), of_anchors(family)
    inputs = model.prepare(TEXTS, picture(3))
    norms = sorted(float(norm) for norm in rows.mean(0).norm(dim=-1))
    cap = (norms[1] + norms[2]) / 2
    (acting,) = CMRM(norm_cap=cap).fit(model, ANCHORS).interventions(model, inputs)
    for layer, hook in enumerate(HOOKS):
        mean = rows[:, layer].mean(0)
        close(acting.directions[hook], (mean * min(1.0, cap / float(mean.norm()))).float(), slack=10)
    assert {float(norm) < cap * 0.999 for norm in acting.directions.norms().values()} == {True, False}


def test_the_layer_cap_is_in_units_of_the_anchors_spread(family):
    model, rows = model_of(family), of_anchors(family)
    inputs = model.prepare(TEXTS, picture(3))
    recipe = CMRM(level="sample", layer_cap=0.9).fit(model, ANCHORS)
    (acting,) = recipe.interventions(model, inputs)
    own = oracle.differences(*network(family), TEXTS, ci.images.blank((32, 32)))
    for layer, hook in enumerate(HOOKS):
        # The largest eigenvalue of the second moments about zero.
        sigma = float(torch.linalg.eigvalsh(rows[:, layer].T @ rows[:, layer] / len(ANCHORS))[-1]) ** 0.5
        close(recipe.sigma[hook], torch.tensor(sigma), slack=10)
        factors = (0.9 * sigma / own[:, layer].norm(dim=-1)).clamp(max=1)
        close(acting.directions[hook], (own[:, layer] * factors[:, None]).float(), slack=10)
    assert recipe.anchors, "the sample level was fitted on anchors then, and says so"


def test_a_saved_cap_and_scale_come_back(tmp_path):
    model = model_of("llava")
    recipe = CMRM(level="sample", layer_cap=0.5, scale="unit", application="replace", steps="prefill")
    fitted = recipe.fit(model, ANCHORS)
    fitted.save(tmp_path / "cmrm.safetensors")
    again = CMRM.load(tmp_path / "cmrm.safetensors")
    assert (again.layer_cap, again.scale, again.application) == (0.5, "unit", "replace")
    for hook, sigma in fitted.sigma.items():
        same(again.sigma[hook], sigma)


def test_caps_of_plain_vectors():
    shift = ci.Directions({"a": torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])}, rows="batch")
    same(capped(shift, norm_cap=1.0)["a"].norm(dim=-1), torch.tensor([1.0, 0.5, 0.0]))
    same(capped(shift, 2.0, 0.5, {"a": torch.tensor(2.0)})["a"].norm(dim=-1), torch.tensor([1.0, 0.5, 0.0]))
    assert capped(shift) == shift
    ones = ci.Activations({"a": torch.ones(4, 9)}, "last")
    assert float(first_sigma(ones, ones.map(lambda t, _: t * 0))["a"]) == pytest.approx(3.0)


def test_what_cannot_be_together_is_refused():
    model = model_of("llava")
    inputs = model.prepare(TEXTS, picture(3))
    with pytest.raises(InputError, match=r"a generated token has none .* add steps='prefill'"):
        CMRM(application="replace")
    with pytest.raises(InputError, match="of the principal component of a data set: add direction='principal'"):
        CMRM(scale="projection_std")
    with pytest.raises(InputError, match="of the principal component of a data set"):
        CMRM(scale="projection_std", direction="principal", level="sample")
    with unchecked(), pytest.raises(InputError, match="no scale='norm': use 'unit' or 'projection_mean' or"):
        CMRM(scale="norm")
    with pytest.raises(InputError, match=r"no norm_cap=0\.0: a length above zero, or None for any"):
        CMRM(norm_cap=0.0)
    with pytest.raises(InputError, match="no layer_cap=nan: a length above zero"):
        CMRM(layer_cap=float("nan"))
    with pytest.raises(InputError, match="one has no standard deviation"):
        CMRM(scale="projection_std", direction="principal").fit(model, ANCHORS[:1])
    with pytest.raises(InputError, match="no anchors"):
        CMRM(level="sample", layer_cap=1.0).fit(model)
    nan = CMRM(alpha=float("nan"), application="replace", steps="prefill").fit(model, ANCHORS)
    with pytest.raises(InputError, match="alpha is nan"):
        nan.interventions(model, inputs)


def test_a_cap_put_in_after_the_fit_is_refused():
    model = model_of("llava")
    late = replace(CMRM().fit(model, ANCHORS), layer_cap=1.0)
    with pytest.raises(InputError, match="in units of the spread of anchors, which this recipe was fitted without"):
        late.interventions(model, model.prepare(TEXTS, picture(3)))


def test_incremental_acts_by_the_same_vectors_at_chosen_layers(family):
    model = model_of(family)
    inputs = model.prepare(TEXTS, picture(3))
    (acting,) = CMRM(application="incremental", layers=[1]).fit(model, ANCHORS).interventions(model, inputs)
    mean = of_anchors(family).mean(0).float()
    clean, moved = (model.capture(inputs, STREAM, interventions=does) for does in ((), acting))
    close(clean[HOOKS[1]] - moved[HOOKS[1]], (mean[1] - mean[0]).expand(len(TEXTS), -1), slack=10)
