"""InferAligner: vectors, gates and logits by bare hooks; another model's vectors; what is refused."""

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.recipes import InferAligner
from cmrm_interp.recipes.inferaligner import safety_vectors
from tests.oracles import two_classes as oracle
from tests.oracles.cmrm import encode
from tests.support import close, fresh, model_of, network, picture, same, twin_of, unchecked

HARMFUL = ["how do i make a zorp ?", "tell me how to build a blat", "make me a big cat now"]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please"]
ASKED = ["what is in the picture ?", "how do i make a zorp ?", "are you kind ?", "how do i make a cake ?"]
SHOWN = [picture(3), None, picture(4), None]
ANCHORS = ci.Anchors(HARMFUL, HARMLESS)
POINTS = [oracle.post(layer) for layer in range(4)]


@pytest.fixture(scope="module")
def model():
    return model_of("llava")


@pytest.fixture(scope="module")
def classes():
    """Means of the two classes at the last token, by hook point."""
    twin, processor = twin_of("llava"), network("llava")[1]
    found = [oracle.states(twin, processor, texts, POINTS) for texts in (HARMFUL, HARMLESS)]
    return {point: [oracle.last(part[point]).mean(0) for part in found] for point in POINTS}


def test_gates_and_logits_are_the_equations(model, classes):
    twin, processor = twin_of("llava"), network("llava")[1]
    aligner = InferAligner(alpha=0.6, layers=(1, 2)).fit(model, ANCHORS)
    inputs = model.prepare(ASKED, SHOWN)
    opened, acting = aligner.gates(model, inputs, (1, 2)), aligner.interventions(model, inputs)
    seen = []
    for row, text in enumerate(ASKED):
        tensors = encode(processor, text, SHOWN[row])
        clean = oracle.states(twin, processor, [text], POINTS, [SHOWN[row]])
        edits = {}
        for point in POINTS[1:3]:
            bad, good = classes[point]
            gate = (bad - good) @ clean[point][0][-1] - (bad - good) @ (bad + good) / 2 > 0
            assert bool(opened[point][row]) == gate
            seen.append(bool(gate))
            step = 0.6 * gate * torch.from_numpy(bad - good).float()
            edits[point] = lambda x, step=step: x + step
        close(model.logits(inputs, acting)[row], oracle.logits(twin, tensors, edits), slack=10)
    assert set(seen) == {True, False}


def test_the_midpoint_lies_between_the_classes(model, classes):
    aligner = InferAligner().fit(model, ANCHORS)
    for point, (bad, good) in classes.items():
        direction = bad - good
        assert direction @ good < float(aligner.midpoints[point]) < direction @ bad
        np.testing.assert_allclose(float(aligner.midpoints[point]), direction @ (bad + good) / 2, rtol=1e-3, atol=1e-4)


def test_a_bias_opens_and_shuts_every_gate(model):
    inputs = model.prepare(ASKED, picture(3))
    fitted = InferAligner(alpha=1.0, bias=-1e9).fit(model, ANCHORS)
    same(model.logits(inputs, fitted.interventions(model, inputs)), model.logits(inputs))
    open_ = InferAligner(alpha=1.0, bias=1e9).fit(model, ANCHORS)
    add = ci.Add(open_.steering, 1.0, "all", layers=(1, 2))
    close(model.logits(inputs, open_.interventions(model, inputs)), model.logits(inputs, add))


def test_another_models_vectors_steer_and_its_own_guide(model):
    other = fresh("llava", seed=5)
    aligned = safety_vectors(other, ANCHORS)
    own, borrowed = InferAligner().fit(model, ANCHORS), InferAligner(aligned=aligned).fit(model, ANCHORS)
    assert borrowed.guidance == own.guidance
    assert borrowed.steering == aligned
    inputs = model.prepare(ASKED, picture(3))
    logits = [model.logits(inputs, recipe.interventions(model, inputs)) for recipe in (own, borrowed)]
    assert (logits[0] != logits[1]).any()
    narrow = ci.Directions({hook: vector[:16] for hook, vector in aligned.items()})
    with pytest.raises(MismatchError, match=r"\(4 hook points of width .*16.* do not fit .*4 of .*32"):
        InferAligner(aligned=narrow).fit(model, ANCHORS)


def test_images_change_guidance_and_not_what_is_added(model):
    shown = ANCHORS.with_images([picture(seed) for seed in range(len(ANCHORS))])
    text, image = InferAligner().fit(model, shown), InferAligner(anchors_as="image").fit(model, shown)
    assert image.steering == text.steering
    assert image.guidance != text.guidance
    assert image.anchors != text.anchors


def test_it_works_without_a_vision_side():
    model = model_of("llama")
    aligner = InferAligner(bias=1e9).fit(model, ANCHORS)
    inputs = model.prepare(ASKED)
    assert (model.logits(inputs, aligner.interventions(model, inputs)) != model.logits(inputs)).any()


def test_what_cannot_be_is_refused(model):
    with pytest.raises(InputError, match=r"is zero .* are they the same prompts"):
        InferAligner().fit(model, ci.Anchors(HARMFUL, HARMFUL))
    with pytest.raises(InputError, match="has to know which are which"):
        InferAligner().fit(model, HARMFUL)
    with unchecked(), pytest.raises(InputError, match="no bias='mean': use 'midpoint' or a number"):
        InferAligner(bias="mean")
