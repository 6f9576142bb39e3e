"""A gate is its intervention where the condition holds, and nothing elsewhere."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError
from tests.support import FAMILIES, STREAM, VISION, close, inputs_of, model_of, same, unchecked, vectors

POST1 = "blocks.1.hook_resid_post"


def always(x, chosen):
    return torch.ones(len(x), dtype=torch.bool)


def never(x, chosen):
    return torch.zeros(len(x), dtype=torch.bool)


INNER = {
    "Subtract": lambda model: ci.Subtract(vectors(model), 2.0),
    "ProjectOut": lambda model: ci.ProjectOut(vectors(model)),
    "Clamp": lambda model: ci.Clamp(vectors(model), 0.0, 0.1),
    "Ablate": lambda model: ci.Ablate(STREAM),
    "Patch": lambda model: ci.Patch(model.capture(model.prepare(["red", "blue", "you are"]), STREAM)),
    "Hook": lambda model: ci.Hook(STREAM, lambda x, _: 2 * x),
}


@pytest.mark.parametrize("kind", INNER)
@pytest.mark.parametrize("family", FAMILIES)
def test_all_true_is_the_intervention_and_all_false_is_nothing(family, kind):
    model, inputs = model_of(family), inputs_of(model_of(family))
    acting = INNER[kind](model)
    close(model.logits(inputs, ci.Gate(always, acting)), model.logits(inputs, acting))
    same(model.logits(inputs, ci.Gate(never, acting)), model.logits(inputs))
    same(model.generate_tokens(inputs, ci.Gate(never, acting), 4), model.generate_tokens(inputs, max_new_tokens=4))
    got = model.generate_tokens(inputs, ci.Gate(always, acting), 4)
    assert got.tolist() == model.generate_tokens(inputs, acting, 4).tolist()


@pytest.mark.parametrize("kind", [ci.CosineAbove, ci.DotAbove])
def test_conditions_by_hand(kind):
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    v, u = vectors(model, POST1), vectors(model, POST1, seed=1)
    x = model.capture(inputs, POST1, "all")
    value = x.selected(POST1) @ u[POST1]
    if kind is ci.CosineAbove:
        value = value / (x.selected(POST1).norm(dim=-1) * u[POST1].norm())
    threshold = float(value.sort().values[len(value) // 2 - 1 : len(value) // 2 + 1].mean())
    above = value > threshold
    assert 0 < above.sum() < len(above)
    got = model.capture(inputs, POST1, "all", ci.Gate(kind(u, threshold), ci.Add(v, positions="all")))
    close(got.selected(POST1), x.selected(POST1) + above[:, None] * v[POST1])
    same(got.selected(POST1)[~above], x.selected(POST1)[~above])


def test_weights_blend():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    v = vectors(model, POST1)
    quarter = ci.Gate(lambda x, chosen: torch.full((len(x),), 0.25), ci.Add(v, 4.0))
    close(model.logits(inputs, quarter), model.logits(inputs, ci.Add(v, 1.0)))


@pytest.mark.parametrize("batch_size", [1, 2, "auto"])
@pytest.mark.parametrize("family", VISION)
def test_text_rows_of_a_mixed_batch_stay_as_they_are(family, batch_size):
    model, inputs = model_of(family), inputs_of(model_of(family), kind="apart")
    acting = ci.Subtract(vectors(model), 3.0)
    gated = model.logits(inputs, ci.Gate(ci.HasImage(), acting), batch_size=batch_size)
    full, plain = model.logits(inputs, acting, batch_size=batch_size), model.logits(inputs, batch_size=batch_size)
    same(gated[1], plain[1])
    close(gated[[0, 2]], full[[0, 2]])
    tokens = model.generate_tokens(inputs, ci.Gate(ci.HasImage(), acting), 4, batch_size)
    assert tokens[1].tolist() == model.generate_tokens(inputs, (), 4, batch_size)[1].tolist()
    assert tokens[0].tolist() == model.generate_tokens(inputs, acting, 4, batch_size)[0].tolist()


def test_gates_nest():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    acting = ci.Subtract(vectors(model))
    same(model.logits(inputs, ci.Gate(always, ci.Gate(never, acting))), model.logits(inputs))
    close(model.logits(inputs, ci.Gate(always, ci.Gate(always, acting))), model.logits(inputs, acting))


def test_a_condition_that_returns_no_tensor_is_told_so():
    model = model_of("llama")
    bad = ci.Gate(lambda x: True, ci.Subtract(vectors(model)))
    with unchecked(), pytest.raises(InputError, match=r"a tensor with one value a token \(here 3\), not True"):
        model.logits(inputs_of(model, "left", "text"), bad)


def test_a_condition_of_another_shape_is_told_so():
    model = model_of("llama")
    bad = ci.Gate(lambda x, chosen: torch.ones(2, 2), ci.Subtract(vectors(model)))
    with pytest.raises(InputError, match=r"a gate's condition returns one value a token: 3, not \(2, 2\)"):
        model.logits(inputs_of(model), bad)


@pytest.mark.parametrize("kind", [ci.CosineAbove, ci.DotAbove])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_threshold_is_a_number(kind, value):
    with pytest.raises(InputError, match=f"the threshold is {value}: give a finite number"):
        kind(vectors(model_of("llama")), value)


def test_a_condition_may_take_the_activation_alone():
    model, inputs = model_of("llava"), inputs_of(model_of("llava"))
    acting = ci.Subtract(vectors(model), 2.0)
    alone = ci.Gate(lambda x: x.norm(dim=-1) > 0, acting)
    same(model.logits(inputs, alone), model.logits(inputs, ci.Gate(always, acting)))
