"""RepE: reading vectors against scikit-learn's PCA, operators in closed form, logits by bare hooks."""

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError
from cmrm_interp.recipes import RepE
from cmrm_interp.recipes.repe import reading_vector
from tests.oracles import two_classes as oracle
from tests.oracles.cmrm import encode
from tests.support import close, model_of, network, picture, same, twin_of, unchecked

HARMFUL = ["how do i make a zorp ?", "tell me how to build a blat", "make me a big cat now", "what is red ?"]
HARMLESS = ["how do i make a cake ?", "tell me about dogs please", "are you kind ?"]
ANCHORS = ci.Anchors(HARMFUL, HARMLESS)
HOOK = "blocks.1.hook_resid_post"


def draws(n=40, d=12, seed=0, size=0.5):
    """Two classes that differ by one vector and noise."""
    generator = torch.Generator().manual_seed(seed)
    apart = torch.randn(d, generator=generator)
    base, noise = torch.randn(n, d, generator=generator), torch.randn(2, n, d, generator=generator) * size
    return base + apart + noise[0], base + noise[1], apart


def half(n):
    return torch.arange(n) % 2 == 1


def test_the_reading_vector_is_the_pca_of_recentred_pairs():
    from sklearn.decomposition import PCA

    harmful, harmless, apart = draws()
    swapped = half(40)
    apart_rows = (harmful - harmless).double().numpy() * np.where(swapped, -1, 1)[:, None]
    component = PCA(1, svd_solver="full").fit(apart_rows).components_[0]
    found = reading_vector(harmful, harmless, swapped)
    np.testing.assert_allclose(abs(found.numpy() @ component), 1, atol=1e-5)
    assert torch.cosine_similarity(found, apart, dim=0) > 0.95
    assert reading_vector(harmless, harmful, swapped) @ apart < 0


def test_without_the_random_order_the_difference_is_lost():
    harmful, harmless, apart = draws()
    shuffled, plain = (reading_vector(harmful, harmless, s) for s in (half(40), torch.zeros(40, dtype=torch.bool)))
    cosines = [float(torch.cosine_similarity(v, apart, dim=0).abs()) for v in (shuffled, plain)]
    assert cosines[0] > 0.95 > 0.7 > cosines[1]


def test_alpha_is_in_units_of_the_distance():
    harmful, harmless, _ = draws()
    unit, whole = (reading_vector(harmful, harmless, half(40), unit) for unit in (True, False))
    torch.testing.assert_close(whole, unit * ((harmful - harmless) @ unit).mean())


@pytest.mark.parametrize("operator", ["linear_comb", "piecewise_linear"])
@pytest.mark.parametrize("keep_norm", [False, True])
@pytest.mark.parametrize("alpha", [0.8, -0.8])
def test_logits_are_the_operators_equations(operator, keep_norm, alpha):
    model, twin, processor = model_of("llava"), twin_of("llava"), network("llava")[1]
    recipe = RepE(alpha=alpha, operator=operator, keep_norm=keep_norm, layers=1).fit(model, ANCHORS)
    v = recipe.directions[HOOK]

    def edit(x):
        moved = x + alpha * v * (torch.sign(x @ v)[..., None] if operator == "piecewise_linear" else 1)
        return moved / moved.norm(dim=-1, keepdim=True) * x.norm(dim=-1, keepdim=True) if keep_norm else moved

    inputs = model.prepare(HARMFUL, picture(3))
    got = model.logits(inputs, recipe.interventions(model, inputs))
    for row, text in enumerate(HARMFUL):
        close(got[row], oracle.logits(twin, encode(processor, text, picture(3)), {HOOK: edit}), slack=10)
    assert (got - model.logits(inputs)).abs().max() > 1e-3


@pytest.mark.parametrize("operator", ["linear_comb", "piecewise_linear"])
def test_zero_strength_is_bit_equal_with_the_norm_kept(operator):
    model = model_of("llava")
    recipe = RepE(alpha=0.0, operator=operator, keep_norm=True).fit(model, ANCHORS)
    inputs = model.prepare(HARMFUL, picture(3))
    same(model.logits(inputs, recipe.interventions(model, inputs)), model.logits(inputs))


def test_keep_norm_leaves_what_became_zero():
    x = torch.tensor([[3.0, 4.0]])
    chosen = ci.interventions.Chosen("here", *[torch.zeros(1, dtype=torch.long)] * 2, torch.ones(1, dtype=torch.bool))
    gone = ci.interventions.KeepNorm(ci.Subtract(ci.Directions({"here": x[0]}), 1.0))
    same(gone.edit(x, chosen), torch.zeros(1, 2))


def test_vectors_of_another_model_are_refused_inside_of_keep_norm():
    model = model_of("llava")
    strange = ci.Directions({HOOK: torch.ones(32)}, model="another")
    with pytest.raises(ci.errors.MismatchError, match="made on another model"):
        model.logits(model.prepare("red"), ci.interventions.KeepNorm(ci.Add(strange)))


def test_the_seed_is_of_the_order_and_signs_are_not_its_choice():
    model = model_of("llava")
    one, again, other = (RepE(seed=seed).fit(model, ANCHORS).directions for seed in (0, 0, 1))
    assert one == again
    assert one != other
    rows = [model.capture(model.prepare(texts), "blocks.*.hook_resid_post") for texts in (HARMFUL, HARMLESS)]
    for hook in one:
        apart = rows[0][hook] - rows[1][hook][[0, 1, 2, 0]]
        # Half of the pairs or more: where the sides are even, the sign is free.
        assert [int((apart @ v[hook] > 0).sum()) >= 2 for v in (one, other)] == [True, True]


def test_layers_are_a_share_of_the_depth():
    model = model_of("llava")
    (add,) = RepE().fit(model, ANCHORS).interventions(model, model.prepare("red"))
    assert add.layers == (1,)


def test_what_cannot_be_is_refused():
    model = model_of("llava")
    with pytest.raises(InputError, match="needs three pairs of anchors or more, and there are 2"):
        RepE().fit(model, ci.Anchors(HARMFUL[:2], HARMLESS[:2]))
    with pytest.raises(InputError, match=r"is zero .* are they the same prompts"):
        RepE().fit(model, ci.Anchors(HARMFUL, HARMFUL))
    with unchecked(), pytest.raises(InputError, match="no operator='add': use 'linear_comb' or 'piecewise_linear'"):
        RepE(operator="add")
