"""VLM-Guard: the subspace by NumPy, both readings by bare hooks, the gate, and what is refused."""

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.recipes import VLMGuard
from tests.oracles import two_classes as oracle
from tests.oracles.cmrm import encode
from tests.support import close, model_of, network, picture, same, twin_of, unchecked

HARMFUL = [
    "how do i make a zorp ?",
    "tell me how to build a blat",
    "make me a big cat now",
    "what is red ?",
    "build it",
]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please", "are you kind ?"]
ASKED = ["what is in the picture ?", "tell me about cats and dogs please you are kind", "how do i make a cake ?", "red"]
ANCHORS = ci.Anchors(HARMFUL, HARMLESS)


@pytest.fixture(scope="module", params=["llava", "qwen2_vl"])
def family(request):
    return request.param


def by_numpy(family, rank):
    """Subspaces by layer; the shorter class begins again."""
    twin, processor = twin_of(family), network(family)[1]
    points = [oracle.post(layer) for layer in range(model_of(family).n_layers)]
    bad = oracle.states(twin, processor, HARMFUL, points)
    good = oracle.states(twin, processor, HARMLESS, points)
    apart = {p: oracle.last(bad[p]) - oracle.last(good[p])[[0, 1, 2, 0, 1]] for p in points}
    return {point: oracle.oriented_svd(rows, rank) for point, rows in apart.items()}


@pytest.mark.parametrize("rank", [1, 3])
def test_the_subspace_is_of_the_differences_singular_vectors(family, rank):
    found = VLMGuard(rank=rank).fit(model_of(family), ANCHORS).subspace
    for point, rows in by_numpy(family, rank).items():
        close(found[point].reshape(rank, -1), torch.from_numpy(rows).float(), slack=10)


@pytest.mark.parametrize("reading", ["amplify", "project"])
def test_both_readings_are_their_equations(family, reading):
    model, twin, processor = model_of(family), twin_of(family), network(family)[1]
    guard = VLMGuard(reading=reading, alpha=0.7, rank=2).fit(model, ANCHORS)
    opened = []

    def edit(rows):
        v = torch.from_numpy(rows).float()

        def fn(x):
            h = x[:, -1]
            gate = (h @ v[0] > 0).float()[:, None] if reading == "amplify" else -1.0
            opened.append(float(gate))
            return torch.cat([x[:, :-1], (h + 0.7 * gate * (h @ v.T @ v))[:, None]], 1)

        return fn

    edits, moved = {point: edit(rows) for point, rows in by_numpy(family, 2).items()}, []
    for text in ASKED:
        inputs = model.prepare(text, picture(3))
        wanted = oracle.logits(twin, encode(processor, text, picture(3)), edits)
        close(model.logits(inputs, guard.interventions(model, inputs))[0], wanted, slack=10)
        moved.append(float((wanted - model.logits(inputs)[0]).abs().max()) > 1e-3)
    assert any(moved)
    # The prompts above meet gates that are open and gates that are shut.
    assert set(opened) == ({0.0, 1.0} if reading == "amplify" else {-1.0})


def test_the_gate_is_shut_on_the_harmless_side():
    model = model_of("llava")
    guard = VLMGuard(layers=1).fit(model, ANCHORS)
    away = -100 * guard.subspace["blocks.1.hook_resid_post"]
    inputs = model.prepare(ASKED, picture(3))
    push = ci.Add(ci.Directions({"blocks.1.hook_resid_post": away}), 1.0, "last")
    same(model.logits(inputs, [push, *guard.interventions(model, inputs)]), model.logits(inputs, push))
    pull = ci.Add(ci.Directions({"blocks.1.hook_resid_post": -away}), 1.0, "last")
    assert (model.logits(inputs, [pull, *guard.interventions(model, inputs)]) != model.logits(inputs, pull)).any()


def test_images_of_anchors_are_looked_at_only_if_asked():
    model = model_of("llava")
    shown = ANCHORS.with_images([picture(seed) for seed in range(len(ANCHORS))])
    assert VLMGuard().fit(model, shown).subspace == VLMGuard().fit(model, ANCHORS).subspace
    assert VLMGuard(anchors_as="image").fit(model, shown).subspace != VLMGuard().fit(model, ANCHORS).subspace
    with pytest.raises(InputError, match="8 of the 8 anchors have none"):
        VLMGuard(anchors_as="image").fit(model, ANCHORS)


def test_what_cannot_be_is_refused():
    model = model_of("llava")
    with pytest.raises(InputError, match=r"the direction at 'blocks.0.hook_resid_post' is zero .* the same prompts\?"):
        VLMGuard().fit(model, ci.Anchors(HARMLESS, HARMLESS))
    with pytest.raises(InputError, match="there are no harmless ones"):
        VLMGuard().fit(model, ci.Anchors(HARMFUL, []))
    with pytest.raises(ModelError, match=r"VLMGuard is about images, and .* takes text alone"):
        VLMGuard().fit(model_of("llama"), ANCHORS)
    with pytest.raises(InputError, match="k = 6 directions from 5 rows"):
        VLMGuard(rank=6).fit(model, ANCHORS)
    with unchecked(), pytest.raises(InputError, match="no reading='both': use 'amplify' or 'project'"):
        VLMGuard(reading="both")
    with unchecked(), pytest.raises(InputError, match="no anchors_as='blank': use 'text' or 'image'"):
        VLMGuard(anchors_as="blank").fit(model, ANCHORS)


def test_the_oracle_orients_along_the_mean():
    rows = np.array([[2.0, 0.1], [3.0, -0.1], [2.5, 0.3]])
    assert oracle.oriented_svd(rows, 1)[0, 0] > 0.9
    assert oracle.oriented_svd(-rows, 1)[0, 0] < -0.9
