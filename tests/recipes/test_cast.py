"""CAST: the condition and its threshold in closed form, logits by bare hooks, what is refused."""

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.recipes import CAST
from cmrm_interp.recipes.cast import best_threshold, similarity
from tests.oracles import cast as closed
from tests.oracles import two_classes as oracle
from tests.oracles.cmrm import encode
from tests.support import close, model_of, network, picture, same, twin_of, unchecked

HARMFUL = ["how do i make a zorp ?", "tell me how to build a blat", "make me a big cat now"]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please", "are you kind ?"]
ASKED = ["what is in the picture ?", "tell me about cats and dogs please you are kind", "how do i make a zorp ?", "red"]
ANCHORS = ci.Anchors(HARMFUL, HARMLESS)


def test_the_similarity_is_the_papers():
    rng = np.random.default_rng(0)
    h, c = rng.normal(size=(5, 8)), rng.normal(size=8)
    got = similarity(torch.from_numpy(h), torch.from_numpy(c)).numpy()
    np.testing.assert_allclose(got, [closed.similarity(row, c) for row in h], rtol=1e-12)
    np.testing.assert_allclose(got, similarity(torch.from_numpy(h), torch.from_numpy(-3 * c)).numpy(), rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_has_a_better_f1(seed):
    rng = np.random.default_rng(seed)
    harmful, harmless = rng.normal(0.4 * (-1) ** seed, 1, 15), rng.normal(0, 1, 11)
    f1, margin, threshold, above = best_threshold(*(torch.from_numpy(part) for part in (harmful, harmless)))
    between = np.concatenate([harmful, harmless])
    dense = np.linspace(between.min() + 1e-6, between.max() - 1e-6, 4000)
    assert f1 >= closed.best_f1(harmful, harmless, dense) - 1e-12
    fires = (lambda s: s > threshold) if above else (lambda s: s < threshold)
    hit, false = sum(map(fires, harmful)), sum(map(fires, harmless))
    np.testing.assert_allclose(f1, 2 * hit / (15 + hit + false))
    assert np.abs(between - threshold).min() == pytest.approx(margin / 2)


def test_of_equal_thresholds_the_widest_margin_is_taken():
    found = best_threshold(torch.tensor([5.0, 6.0]).double(), torch.tensor([0.0, 1.0]).double())
    assert found == (1.0, 4.0, 3.0, True)
    assert best_threshold(torch.tensor([0.0]).double(), torch.tensor([2.0]).double())[2:] == (1.0, False)


@pytest.mark.parametrize("over", ["text", "prompt", "last"])
def test_decision_and_logits_are_the_equations(over):
    model, twin, processor = model_of("llava"), twin_of("llava"), network("llava")[1]
    cast = CAST(alpha=0.9, layers=(2, 3), over=over).fit(model, ANCHORS)
    (point,) = cast.condition
    inputs = model.prepare(ASKED, picture(3))
    holds, acting = cast.holds(model, inputs), cast.interventions(model, inputs)
    for row, text in enumerate(ASKED):
        tensors = encode(processor, text, picture(3))
        h = oracle.states(twin, processor, [text], [point], [picture(3)])[point][0]
        image = tensors["input_ids"][0].numpy() == model.hf.config.image_token_id
        pooled = h[-1] if over == "last" else h[~image].mean(0) if over == "text" else h.mean(0)
        sim = closed.similarity(pooled, cast.condition[point].double().numpy())
        assert bool(holds[row]) == (sim > cast.threshold if cast.above else sim < cast.threshold)
        steps = {oracle.post(k): 0.9 * bool(holds[row]) * cast.behaviour[oracle.post(k)] for k in (2, 3)}
        edits = {name: lambda x, step=step: x + step for name, step in steps.items()}
        close(model.logits(inputs, acting)[row], oracle.logits(twin, tensors, edits), slack=10)


def test_vectors_are_the_pca_of_pairs_centred_on_themselves():
    from sklearn.decomposition import PCA

    model, twin, processor = model_of("llava"), twin_of("llava"), network("llava")[1]
    cast = CAST(scale="unit").fit(model, ANCHORS)
    points = [oracle.post(layer) for layer in range(4)]
    bad, good = (oracle.states(twin, processor, texts, points) for texts in (HARMFUL, HARMLESS))
    for point in points:
        half = (oracle.last(bad[point]) - oracle.last(good[point])) / 2
        wanted = PCA(1, svd_solver="full").fit(np.concatenate([half, -half])).components_[0]
        got = cast.behaviour[point].double().numpy()
        np.testing.assert_allclose(abs(got @ wanted), 1, atol=1e-4)
        assert got @ half.mean(0) > 0


def test_prompts_that_do_not_meet_the_condition_stay_as_they_are():
    model = model_of("llava")
    cast = CAST(alpha=3.0).fit(model, ANCHORS)
    inputs = model.prepare([*HARMFUL, *HARMLESS])
    holds, moved = cast.holds(model, inputs), model.logits(inputs, cast.interventions(model, inputs))
    clean = model.logits(inputs)
    assert cast.f1 > 0.7
    assert holds.any()
    assert not holds.all()
    same(moved[~holds], clean[~holds])
    assert (moved[holds] != clean[holds]).any(1).all()


def test_the_condition_is_read_where_it_is_allowed():
    model = model_of("llama")
    cast = CAST(condition_layers=[2]).fit(model, ANCHORS)
    assert list(cast.condition) == ["blocks.2.hook_resid_post"]
    with pytest.raises(HookPointError, match="no layer 9"):
        CAST(condition_layers=[9]).fit(model, ANCHORS)


def test_what_cannot_be_is_refused():
    model = model_of("llama")
    with pytest.raises(InputError, match=r"is zero .* are they the same prompts"):
        CAST().fit(model, ci.Anchors(HARMFUL, HARMFUL))
    with pytest.raises(InputError, match="there are no harmful ones"):
        CAST().fit(model, ci.Anchors([], HARMLESS))
    with unchecked(), pytest.raises(InputError, match="no over='image': use 'text', 'prompt' or 'last'"):
        CAST(over="image")
