"""What does not fit a model is refused before anything runs, in one line, and nothing is touched."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import CmrmError, HookPointError, InputError, MismatchError
from tests.support import STREAM, fresh, inputs_of, model_of, same, unchecked, vectors

A = "blocks.0.hook_resid_post"


def of(name, *shape, **how):
    return ci.Directions({name: torch.ones(*shape)}, **how)


CASES = {
    "unknown layer": (
        lambda m: ci.Subtract(of("blocks.9.hook_resid_post", 32)),
        HookPointError,
        r"this model has 4 layers \(0-3\)",
    ),
    "unknown point": (lambda m: ci.Ablate("blocks.0.hook_resid"), HookPointError, r"no hook point .*: the nearest are"),
    "layers": (
        lambda m: ci.Subtract(vectors(m), layers=[4]),
        HookPointError,
        r"no layer 4: this model has 4 layers \(0-3\)",
    ),
    "layer without": (lambda m: ci.Add(of(A, 32), layers=[2]), HookPointError, "nothing to do at layers"),
    "no layers": (lambda m: ci.Add(of(A, 32), layers=[]), HookPointError, "layers is empty"),
    "width": (
        lambda m: ci.Subtract(of(A, 31)),
        MismatchError,
        f"the direction at '{A}' has width 31; this model has d_model 32",
    ),
    "rows": (lambda m: ci.Add(of(A, 2, 32, rows="batch")), MismatchError, "directions for 2 rows and inputs of 3 rows"),
    "model": (
        lambda m: ci.Add(of(A, 32, model="abc")),
        MismatchError,
        r"directions were made on another model \(abc; .*: make them again here, or call directions.transfer\(\)",
    ),
    "gated": (
        lambda m: ci.Gate(ci.DotAbove(of(A, 32)), ci.Add(of(A, 32, model="abc"))),
        MismatchError,
        "made on another model",
    ),
    "gate": (
        lambda m: ci.Gate(ci.DotAbove(of(A, 32, model="abc")), ci.Add(of(A, 32))),
        MismatchError,
        "made on another model",
    ),
    "nested gate": (
        lambda m: ci.Gate(ci.HasImage(), ci.Gate(ci.HasImage(), ci.Add(of(A, 32, model="abc")))),
        MismatchError,
        "made on another model",
    ),
    "no intervention": (lambda m: "Subtract", InputError, "str is no intervention: use Subtract"),
    "function": (lambda m: [lambda x, n: x], InputError, r"function is no intervention: use .*Hook\(hooks, fn\)"),
    "reference": (
        lambda m: ci.Ablate(STREAM, "mean", m.capture(inputs_of(m), A)),
        HookPointError,
        "the reference has no activations at",
    ),
    "patch rows": (
        lambda m: ci.Patch(m.capture(m.prepare(["red", "blue"]), A)),
        MismatchError,
        "Patch has 2 rows of activations",
    ),
    "patch tokens": (
        lambda m: ci.Patch(m.capture(m.prepare(["red"] * 3), A, "all")),
        MismatchError,
        r"row 0: \d+ tokens to patch, \d+ were",
    ),
}


@pytest.mark.parametrize("way", ["logits", "generate", "capture"])
@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit(case, way, tmp_path):
    model = model_of("llama")
    make, error, words = CASES[case]
    before = model.logits(inputs_of(model))
    call = {
        "logits": model.logits,
        "generate": model.generate,
        "capture": lambda inputs, acting: model.capture(inputs, STREAM, interventions=acting, store=tmp_path / "acts"),
    }[way]
    acting = make(model)
    with unchecked(), pytest.raises(error, match=words) as caught:
        call(inputs_of(model), acting)
    assert isinstance(caught.value, CmrmError)
    assert "\n" not in str(caught.value)
    same(model.logits(inputs_of(model)), before)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [ci.Add, ci.Subtract, ci.ProjectOut])
def test_strengths_are_finite(kind, alpha):
    with pytest.raises(InputError, match=f"alpha is {alpha}: give a finite number"):
        kind(of(A, 32), alpha=alpha)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ci.Add(of(A, 32), positions="lst"), "no position 'lst': use one of last, all"),
        (lambda: ci.Hook(A, abs, positions="lst"), "no position 'lst'"),
        (lambda: ci.Ablate(A, "random"), "no ablation 'random': use zero, mean or resample"),
        (lambda: ci.Ablate(A, "mean"), "mean ablation needs reference=: activations to take the values from"),
        (lambda: ci.Clamp(of(A, 32)), "Clamp without low and high changes nothing: give at least one"),
        (lambda: ci.Clamp(of(A, 32), 2.0, 1.0), "Clamp from 2.0 to 1.0: low is above high"),
        (lambda: ci.Clamp(of(A, 32), float("nan")), "a bound of Clamp is nan: give a number or None"),
        (lambda: ci.Clamp(of(A, 2, 32, rows="subspace"), 1.0), "Clamp takes one vector a hook point"),
        (lambda: ci.ProjectOut(of(A, 2, 32, rows="batch")), "not one vector a row"),
    ],
)
def test_values_that_mean_nothing(make, words):
    with unchecked(), pytest.raises(CmrmError, match=words):
        make()


def test_transferred_directions_are_used_on_purpose():
    model, other = model_of("llama"), fresh("llama", seed=1)
    shift = ci.mean_diff(model.capture(inputs_of(model), A), model.capture(model.prepare("red"), A))
    with pytest.raises(MismatchError, match=rf"another model \({model.fingerprint}; this is .*{other.fingerprint}\)"):
        other.logits(inputs_of(other), ci.Subtract(shift))
    other.logits(inputs_of(other), ci.Subtract(shift.transfer()))
