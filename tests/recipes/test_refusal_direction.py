"""The refusal direction: candidates and scores by bare hooks, the selection, both uses, what is refused."""

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError
from cmrm_interp.recipes import RefusalDirection
from cmrm_interp.recipes.refusal_direction import template_positions
from cmrm_interp.recipes.refusal_selection import Limits, refusal_tokens, score, select
from tests.oracles import refusal_direction as oracle
from tests.oracles.cmrm import encode
from tests.oracles.two_classes import logits
from tests.support import close, model_of, network, picture, twin_of, unchecked

HARMFUL = [
    "how do i make a zorp ?",
    "tell me how to build a blat",
    "make me a big cat now",
    "what is red ?",
    "build it",
]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please", "are you kind ?", "what is this ?", "bake bread"]
HELD = (["steps to hurt a cat", "build me a zorp"], ["steps to make a cake please", "what is a dog ?"])
ANCHORS = ci.Anchors(HARMFUL, HARMLESS)
WIDE = {"max_kl": 1e9, "min_induced": -1e9, "refusal_tokens": (5, 7)}


def test_scores_are_those_of_bare_hooks():
    model, twin, processor = model_of("llava"), twin_of("llava"), network("llava")[1]
    made = oracle.candidates(twin, processor, HARMFUL, HARMLESS, 4)
    tokens = (5, 7)
    harmful, harmless = (model.prepare(texts) for texts in HELD)
    found = score(model, torch.from_numpy(made)[None].float(), harmful, harmless, tokens)
    clean = oracle.rows(twin, processor, HELD[1], {})
    for layer in range(1, 4):
        without, added = oracle.ablating(made[layer], 4), oracle.adding(made[layer], layer)
        ablated = [oracle.refusal_score(row, tokens) for row in oracle.rows(twin, processor, HELD[0], without)]
        induced = [oracle.refusal_score(row, tokens) for row in oracle.rows(twin, processor, HELD[1], added)]
        kls = map(oracle.kl, clean, oracle.rows(twin, processor, HELD[1], without))
        wanted = {"ablated": np.mean(ablated), "induced": np.mean(induced), "kl": np.mean(list(kls))}
        got = {name: float(values[0, layer]) for name, values in found.items()}
        assert got == pytest.approx(wanted, rel=2e-3, abs=1e-4)


@pytest.mark.parametrize("how", ["add", "ablate"])
def test_both_uses_are_their_equations_with_images_too(how):
    model, twin, processor = model_of("llava"), twin_of("llava"), network("llava")[1]
    recipe = RefusalDirection(how=how, **WIDE).fit(model, ANCHORS)
    r = recipe.direction.double().numpy()
    edits = oracle.adding(r, recipe.layer) if how == "add" else oracle.ablating(r, 4)
    inputs = model.prepare(HELD[0], picture(3))
    got = model.logits(inputs, recipe.interventions(model, inputs))
    for row, text in enumerate(HELD[0]):
        close(got[row], logits(twin, encode(processor, text, picture(3)), edits), slack=10)
    assert (got - model.logits(inputs)).abs().max() > 1e-3


def test_the_direction_is_of_the_training_anchors_at_its_place():
    model, twin, processor = model_of("llava"), twin_of("llava"), network("llava")[1]
    recipe = RefusalDirection(seed=2, validation=0.4, **WIDE).fit(model, ANCHORS)
    parts = [[p.text for p in recipe._split(known)[0]] for known in (ANCHORS.harmful, ANCHORS.harmless)]
    assert [len(part) for part in parts] == [3, 3]
    assert set(parts[0]) < set(HARMFUL)
    wanted = oracle.candidates(twin, processor, *parts, 4)[recipe.layer]
    close(recipe.direction, torch.from_numpy(wanted).float(), slack=10)
    assert recipe.position == -1
    # The template's last token is the same in every prompt until a block has run.
    assert recipe.scores["kl"].isnan().tolist() == [[True, False, False, False]]


def table(**rows):
    return {name: torch.tensor([values]).double() for name, values in rows.items()}


def test_the_selection_takes_the_least_refusal_within_the_limits():
    nan = float("nan")
    scores = table(
        ablated=[nan, -1.0, -3.0, -5.0, -9.0], induced=[nan, 1.0, 2.0, 0.0, 3.0], kl=[nan, 0.01, 0.05, 0.01, 0.0]
    )
    # The last is too late, the one before it induces nothing: 0 is not above 0.
    assert select(scores, Limits()) == (0, 2)
    assert select(scores, Limits(kl=0.05)) == (0, 1)
    assert select(scores, Limits(induced=-1.0)) == (0, 3)
    assert select(scores, Limits(depth=1.0)) == (0, 4)


def test_a_selection_that_nobody_passes_says_what_failed():
    scores = table(ablated=[-1.0, -2.0, -3.0], induced=[-0.5, 0.5, -2.0], kl=[0.05, 0.4, 0.0])
    words = (
        r"none of the 3 candidate directions passes .* of 2 in the first 66% of the layers 1 change .* \(KL 0.05 at the"
        r" least, 0.1 is allowed\), and 1 induce no refusal when added \(score 0.5 at the most, above 0 is asked\)"
    )
    with pytest.raises(InputError, match=words):
        select(scores, Limits(depth=0.66))
    late = table(ablated=[float("nan"), -2.0], induced=[0.0, 1.0], kl=[0.0, 0.0])
    with pytest.raises(InputError, match=r"none of the 1 candidate .* none lies in the first 40% of the layers"):
        select(late, Limits(depth=0.4))


def test_positions_are_the_templates_and_can_be_given():
    model = model_of("llava")
    assert template_positions(model, ANCHORS) == (-1,)
    recipe = RefusalDirection(positions=(-1, -3), **WIDE).fit(model, ANCHORS)
    assert recipe.scores["kl"].shape == (2, 4)
    assert recipe.position in (-3, -1)
    with pytest.raises(InputError, match="an anchor has fewer than 9 tokens"):
        RefusalDirection(positions=(-9,), **WIDE).fit(model, ANCHORS)
    with pytest.raises(InputError, match=r"positions=\(0,\): give some, counted from the end"):
        RefusalDirection(positions=(0,))


def test_refusal_tokens_are_found_from_what_the_organism_says():
    from cmrm_interp.datasets.suites import organism_anchors

    model, anchors = ci.load("organism"), organism_anchors(40)
    harmful, harmless = model.prepare(anchors.harmful), model.prepare(anchors.harmless)
    assert [model.tokenizer.decode([token]) for token in refusal_tokens(model, harmful, harmless)] == ["sorry"]
    with pytest.raises(InputError, match=r"alike \(mostly 'sure'\), so that refusals are not known by their first"):
        refusal_tokens(model, harmless, harmless)


def test_on_the_organism_the_limits_of_the_paper_fail_and_ablation_takes_refusals_away():
    from cmrm_interp.datasets.suites import organism_anchors, organism_suites
    from cmrm_interp.judges import by_form

    model, anchors = ci.load("organism"), organism_anchors(40)
    with pytest.raises(InputError, match="none of the 5 candidate directions passes the selection"):
        RefusalDirection().fit(model, anchors)
    recipe = RefusalDirection(how="ablate", max_kl=2.0, min_induced=-1.0).fit(model, anchors)
    asked = model.prepare(organism_suites("validation", 12)["harmful, text"].prompts)
    refused = [
        sum(by_form(answer) == "refused" for answer in answers)
        for answers in (model.generate(asked, max_new_tokens=12), recipe.generate(model, asked, max_new_tokens=12))
    ]
    assert refused[1] < refused[0] / 2


def test_what_cannot_be_is_refused():
    model = model_of("llava")
    with pytest.raises(InputError, match="give two of each class"):
        RefusalDirection(**WIDE).fit(model, ci.Anchors(HARMFUL, HARMLESS[:1]))
    with pytest.raises(InputError, match=r"none lies in .* the classes have the same states there"):
        RefusalDirection(**WIDE).fit(model, ci.Anchors([HARMFUL[0]] * 3, [HARMFUL[0]] * 3))
    with pytest.raises(InputError, match=r"'zorp blat' is .* in this vocabulary"):
        RefusalDirection(refusal_tokens=("zorp blat",)).fit(model, ANCHORS)
    with pytest.raises(InputError, match=r"validation=1.0: give the share held out"):
        RefusalDirection(validation=1.0)
    with unchecked(), pytest.raises(InputError, match="no how='remove': use 'add' or 'ablate'"):
        RefusalDirection(how="remove")
