"""The gated shift against bare hooks and NumPy; what its parts do; what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.activations import Activations
from cmrm_interp.datasets.suites import organism_anchors, organism_suites
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.judges import by_form
from cmrm_interp.recipes import GatedShift
from cmrm_interp.recipes.likeness import Likeness
from tests.oracles import cmrm, last_token
from tests.oracles import gated_shift as oracle
from tests.support import TEXTS, close, model_of, network, picture, unchecked

HARMFUL = ["how do i make a zorp ?", "tell me how to build a blat", "steps to hurt a cat please"]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please you are kind", "what is in the picture ?"]
STREAM = "blocks.*.hook_resid_post"


def anchors():
    return ci.Anchors(HARMFUL, HARMLESS).with_images([picture(seed) for seed in range(6)])


@pytest.fixture(params=["llava", "qwen2_vl"])
def family(request):
    return request.param


def states_of(family, texts, first):
    hf, processor = network(family)
    rows = [last_token.states(hf, cmrm.encode(processor, t, picture(first + i))) for i, t in enumerate(texts)]
    return torch.stack(rows).numpy()


def test_the_closed_loop_is_that_of_bare_hooks(family):
    shift = GatedShift().fit(model_of(family), anchors()).shift
    wanted = oracle.closed_loop(*network(family), HARMFUL, [picture(seed) for seed in range(3)])
    close(torch.stack(list(shift.values())), wanted, slack=10)


def test_under_the_edit_the_mean_state_is_that_of_the_text(family):
    model, given = model_of(family), anchors()
    recipe = GatedShift(alpha=1.0, gate="none", later=0.0).fit(model, given)
    shown = model.prepare(list(given.harmful))
    edited = model.capture(shown, STREAM, interventions=recipe.interventions(model, shown))
    text = model.capture(shown.without_images(), STREAM)
    for hook in edited:
        close(edited[hook].mean(0), text[hook].mean(0), slack=10)
        assert float((edited[hook] - text[hook]).norm(dim=-1).min()) > 1e-3


def test_answers_are_those_of_bare_hooks(family):
    model, (hf, processor) = model_of(family), network(family)
    recipe = GatedShift(alpha=0.75, later=0.5, gate="none").fit(model, anchors())
    inputs = model.prepare(TEXTS, picture(9))
    got = model.generate_tokens(inputs, recipe.interventions(model, inputs), max_new_tokens=6).tolist()
    vectors = oracle.closed_loop(hf, processor, HARMFUL, [picture(seed) for seed in range(3)])
    for text, tokens in zip(TEXTS, got, strict=True):
        calls = [0] * len(vectors)

        def edit(layer, x, calls=calls):
            calls[layer] += 1
            return oracle.subtract(vectors, layer, x, 0.75 if calls[layer] == 1 else 0.375)

        assert tokens == last_token.generate(hf, cmrm.encode(processor, text, picture(9)), 6, edit)


def test_the_gate_is_that_of_the_formula(family):
    model = model_of(family)
    recipe = GatedShift().fit(model, anchors())
    at = [2, 3]
    assert list(recipe.centres) == [f"blocks.{layer}.hook_resid_post" for layer in at]
    states = [states_of(family, texts, first)[:, at] for texts, first in ((HARMFUL, 0), (HARMLESS, 3), (TEXTS, 30))]
    harm, far = oracle.gate(*states)
    inputs = model.prepare(TEXTS, [picture(30 + row) for row in range(len(TEXTS))])
    read = Likeness(recipe.centres, recipe.precision).read(model.capture(inputs, list(recipe.centres), -1))
    np.testing.assert_allclose(read[0].numpy(), harm, rtol=2e-2, atol=2e-2)
    np.testing.assert_allclose(read[1].numpy(), far, rtol=2e-2)
    # Thresholds between the values that there are, so that the gate has to tell them apart.
    margin, reach = float(np.clip(np.sort(harm)[:2].mean(), -0.9, 0.9)), float(np.sort(far)[-2:].mean())
    acts = replace(recipe, margin=margin, reach=reach).acts_on(model, inputs)
    assert acts.tolist() == ((harm > margin) & (far < reach)).tolist()


def test_where_it_does_not_act_nothing_changes_and_rows_without_an_image_stay():
    model = model_of("llava")
    recipe = GatedShift().fit(model, anchors())
    inputs = model.prepare(TEXTS, picture(9))
    clean = model.logits(inputs)
    asleep = replace(recipe, reach=1e-6)
    assert not asleep.acts_on(model, inputs).any()
    assert torch.equal(model.logits(inputs, asleep.interventions(model, inputs)), clean)
    mixed = model.prepare(TEXTS[:2], [picture(9), None])
    awake = replace(recipe, gate="none")
    assert awake.acts_on(model, mixed).tolist() == [True, False]
    moved = model.logits(mixed, awake.interventions(model, mixed)) != model.logits(mixed)
    assert moved.any(1).tolist() == [True, False]


def test_parts_switched_off_are_what_cmrm_does():
    model, given = model_of("llava"), anchors()
    bare = {"loop": "open", "of": "both", "image": "blank", "gate": "none", "later": 0.0}
    recipe = GatedShift(**bare).fit(model, given)
    same = ci.recipes.CMRM(application="incremental", steps="prefill").fit(model, given)
    for hook, vector in same.shift.increments().items():
        close(recipe.shift[hook], vector)
    inputs = model.prepare(TEXTS, picture(9))
    assert recipe.generate(model, inputs, max_new_tokens=5) == same.generate(model, inputs, max_new_tokens=5)


def test_the_random_control_has_the_same_norms_and_the_same_gate():
    model = model_of("llava")
    recipe = GatedShift().fit(model, anchors())
    random = recipe.randomised(1)
    for hook, norm in recipe.shift.norms().items():
        close(random.shift.norms()[hook], norm)
    assert random.shift != recipe.shift
    assert random.centres is recipe.centres
    with pytest.raises(InputError, match="random control needs a fitted recipe"):
        GatedShift().randomised(0)


def test_on_the_organism_it_acts_on_harmful_requests_alone_and_they_are_refused():
    model = ci.load("organism")
    suites = organism_suites("validation", 24, images=("real", "blank"))
    recipe = GatedShift().fit(model, organism_anchors(images=True))
    for name, suite in suites.items():
        asked = model.prepare(suite.prompts)
        seen = bool(asked.rows_with_image.all())
        wanted = seen and suite.kind == "harmful"
        assert recipe.acts_on(model, asked).tolist() == [wanted] * 24, name
    asked = model.prepare(suites["harmful, real"].prompts)
    said = [by_form(answer) for answer in recipe.generate(model, asked, max_new_tokens=24)]
    assert said.count("refused") >= 23
    random = recipe.randomised(0).generate(model, asked, max_new_tokens=24)
    assert [by_form(answer) for answer in random].count("refused") <= 4
    questions = model.prepare(suites["questions, real"].prompts)
    assert recipe.acts_on(model, questions).sum() == 0
    assert replace(recipe, reach=None).acts_on(model, questions).sum() >= 6


def test_what_cannot_be_is_refused():
    model = model_of("llava")
    with pytest.raises(ModelError, match=r"GatedShift is about images, and .* takes text alone"):
        GatedShift().fit(model_of("llama"), ci.Anchors(HARMFUL, HARMLESS))
    with pytest.raises(InputError, match="has to know which are which"):
        GatedShift().fit(model, list(anchors()))
    with pytest.raises(InputError, match="6 of the 6 anchors have none: give them images"):
        GatedShift().fit(model, anchors().without_images())
    twice = ci.Anchors(HARMFUL, HARMFUL).with_images(picture(1))
    with pytest.raises(InputError, match=r"the same mean state at 'blocks.2.hook_resid_post': give other anchors"):
        GatedShift().fit(model, twice)
    one = ci.Anchors(HARMFUL[:1], HARMLESS[:1]).with_images(picture(1))
    with pytest.raises(InputError, match=r"one state at 'blocks.2.hook_resid_post': give requests that differ"):
        GatedShift().fit(model, one)
    with unchecked(), pytest.raises(InputError, match=r"no gate='probe': use 'harm' or 'none'"):
        GatedShift(gate="probe")
    with pytest.raises(InputError, match=r"margin=1.5: give -1 .* to 1"):
        GatedShift(margin=1.5)
    with pytest.raises(InputError, match=r"reach=0.0: give a number above 0"):
        GatedShift(reach=0.0)
    with pytest.raises(InputError, match=r"not fitted: call \.fit"):
        GatedShift().acts_on(model, model.prepare(TEXTS, picture(9)))


def test_a_flat_class_of_many_rows_is_told_from_one_of_few():
    rows = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    found = Likeness.fit(Activations({"x": rows}, "last", None), [True] * 20 + [False] * 20)
    _, far = found.read(Activations({"x": rows[:20]}, "last", None))
    assert float(far.mean()) == pytest.approx(1.0, abs=1e-4)
