"""A fitted probe: its direction, its gate, its file, against scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, MismatchError, StoreError
from tests.probes.probe_data import A, B, acts, drawn, gaussians
from tests.support import STREAM, close, inputs_of, model_of, same

KINDS = ("logistic", "mean_difference", "lda")
ONE = {"strengths": (0.1,)}


def single(x):
    return torch.tensor(x, dtype=torch.float32)


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))


def test_scores_and_probabilities_are_those_of_scikit_learn():
    x, y, _ = gaussians(n=200)
    x = x * 5.0 ** np.arange(8)  # so that standardising matters
    probe = ci.Probe.fit(acts(x), y, **ONE)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(single(x).double().numpy(), y)
    close(probe.score(acts(x)), single(model.decision_function(x)), slack=10)
    close(probe.probability(acts(x)), single(model.predict_proba(x)[:, 1]), slack=10)


def test_the_mean_difference_probe_in_closed_form():
    x, y, _ = gaussians(n=200)
    probe = ci.Probe.fit(acts(x), y, kind="mean_difference")
    assert cosine(probe.direction()[A], ci.mean_diff(acts(x[y]), acts(x[~y]))[A]) > 1 - 1e-6
    close(probe.score(single((x[y].mean(0) + x[~y].mean(0)) / 2)), torch.tensor(0.0), slack=10)
    along = x @ (x[y].mean(0) - x[~y].mean(0))
    variance = (along[y].var() * y.sum() + along[~y].var() * (~y).sum()) / (len(y) - 2)
    logit = (along[y].mean() - along[~y].mean()) * (along - (along[y].mean() + along[~y].mean()) / 2) / variance
    close(probe.score(acts(x)), single(logit), slack=10)


def test_the_lda_probe_in_closed_form():
    x, y, _ = gaussians(n=300)
    x = x @ np.random.default_rng(1).normal(size=(8, 8))
    probe = ci.Probe.fit(acts(x), y, kind="lda")
    scale = [x[part].std(0) for part in (y, ~y)]
    shrunk = [
        ledoit_wolf((x[part] - x[part].mean(0)) / s, assume_centered=True)[0] * np.outer(s, s)
        for part, s in zip((y, ~y), scale, strict=True)
    ]
    sigma = (y.sum() * shrunk[0] + (~y).sum() * shrunk[1]) / len(y)
    wanted = np.linalg.solve(sigma, x[y].mean(0) - x[~y].mean(0))
    close(probe.direction()[A], single(wanted), slack=20)
    many, labels, line = gaussians(n=20_000, distance=2.0)
    assert cosine(ci.Probe.fit(acts(many), labels, kind="lda").direction()[A], single(line)) > 0.999


@pytest.mark.parametrize("calibrate", [None, "sigmoid", "isotonic"])
@pytest.mark.parametrize("kind", KINDS)
def test_score_differences_are_dot_products(kind, calibrate):
    x, y, _ = gaussians(n=200)
    x = x * 3.0 ** np.arange(8)
    probe, v = ci.Probe.fit(acts(x), y, kind=kind, calibrate=calibrate, **ONE), torch.randn(8)
    moved = probe.score(single(x) + v) - probe.score(single(x))
    torch.testing.assert_close(moved, (v @ probe.direction()[A]).expand(200), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibrated_probabilities_are_those_of_scikit_learn(method):
    x, y = drawn(n=400)
    x = single(x).double().numpy()
    probe = ci.Probe.fit(acts(x), y, calibrate=method, **ONE)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    splits = list(StratifiedKFold(3, shuffle=True, random_state=0).split(x, y))
    wanted = CalibratedClassifierCV(model, method=method, cv=splits, ensemble=False).fit(x, y).predict_proba(x)[:, 1]
    close(probe.probability(acts(x)), single(wanted), slack=50)
    far = probe.probability(single(np.array([[100.0, 0, 0, 0], [-100.0, 0, 0, 0]])))
    assert far[0] > 0.8
    assert far[1] < 0.2


def test_moving_along_the_direction_moves_a_model_and_taking_it_out_blinds_the_probe():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    captured = model.capture(inputs, STREAM)
    probe = ci.Probe.fit(captured, [True, False, False], kind="mean_difference")
    assert probe.model == model.fingerprint
    assert probe.hooks == list(captured)
    layer = probe.at("blocks.1.hook_resid_post")
    v = layer.direction().unit()
    after = model.capture(inputs, layer.hooks, interventions=ci.Add(v, 2.0))
    close(layer.score(after), layer.score(captured) + 2.0 * layer.direction().norms()[layer.hooks[0]], slack=20)
    out = model.capture(inputs, layer.hooks, interventions=ci.ProjectOut(v, positions="last"))
    close(layer.score(out), layer.biases[layer.hooks[0]].expand(3), slack=20)


@pytest.mark.parametrize("calibrate", [None, "isotonic"])
@pytest.mark.parametrize("family", ["llama", "llava"])
def test_a_gate_fires_where_the_probability_says_so(family, calibrate):
    model, inputs = model_of(family), inputs_of(model_of(family))
    hook = "blocks.1.hook_resid_post"
    every = model.capture(inputs, hook, "all")
    x = every.selected(hook)
    y = x[:, 0] > x[:, 0].median()
    probe = ci.Probe.fit(ci.Activations({hook: x}, model=model.fingerprint), y, calibrate=calibrate, **ONE)
    threshold = 0.45
    wanted = probe.probability(x) > threshold
    assert 0.2 < float(wanted.float().mean()) < 0.8
    shift = ci.Directions({hook: torch.full((model.d_model,), 2.0)})
    gate = ci.Gate(probe.condition(threshold), ci.Add(shift, positions="all"))
    got = model.capture(inputs, hook, "all", gate).selected(hook)
    close(got, x + 2.0 * wanted[:, None])
    never, always = (ci.Gate(probe.condition(t), ci.Add(shift, positions="all")) for t in (1.0, 0.0))
    same(model.logits(inputs, never), model.logits(inputs))
    if calibrate is None:
        close(model.logits(inputs, always), model.logits(inputs, ci.Add(shift, positions="all")))
    assert model.generate_tokens(inputs, never, 3).tolist() == model.generate_tokens(inputs, (), 3).tolist()
    assert len(model.generate_tokens(inputs, gate, 3)) == 3


def test_a_gate_needs_the_probe_where_it_edits():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    probe = ci.Probe.fit(model.capture(inputs, STREAM), [True, False, False], kind="mean_difference")
    gate = ci.Gate(probe.at("blocks.0.hook_resid_post").condition(), ci.Subtract(probe.direction()))
    with pytest.raises(HookPointError, match=r"the gate edits 'blocks.1.hook_resid_post', where the probe was not"):
        model.logits(inputs, gate)
    for threshold in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match=f"the threshold is {threshold}: give a probability from 0 to 1"):
            probe.condition(threshold)


def test_a_probe_of_another_model_is_refused_unless_asked():
    one, other = model_of("llama"), model_of("llava")
    probe = ci.Probe.fit(one.capture(inputs_of(one), STREAM), [True, False, False], kind="mean_difference")
    theirs = other.capture(inputs_of(other), STREAM)
    with pytest.raises(MismatchError, match=r"fitted on another model \(.*probe.transfer\(\) to use it on purpose"):
        probe.score(theirs, STREAM.replace("*", "0"))
    with pytest.raises(MismatchError, match="made on another model"):
        other.logits(inputs_of(other), ci.Gate(probe.condition(), ci.Hook(STREAM, lambda x, _: x)))
    with pytest.raises(MismatchError, match="made on another model"):
        other.logits(inputs_of(other), ci.Subtract(probe.direction()))
    if one.d_model == other.d_model:
        assert probe.transfer().score(theirs, STREAM.replace("*", "0")).shape == (3,)


@pytest.mark.parametrize("calibrate", [None, "isotonic"])
def test_a_file_keeps_everything(tmp_path, calibrate):
    x, y, _ = gaussians(n=100)
    probe = ci.Probe.fit(acts(x, 2 * x, model="m"), y, calibrate=calibrate, **ONE)
    probe.save(tmp_path / "probe.safetensors")
    back = ci.Probe.load(tmp_path / "probe.safetensors")
    assert (back.kind, back.model, back.hooks) == ("logistic", "m", [A, B])
    for hook in (A, B):
        same(back.probability(acts(x, 2 * x, model="m"), hook), probe.probability(acts(x, 2 * x, model="m"), hook))
    ci.Directions({A: torch.ones(3)}).save(tmp_path / "other.safetensors")
    with pytest.raises(StoreError, match="holds 'directions', not 'probe'"):
        ci.Probe.load(tmp_path / "other.safetensors")


def test_which_hook_point_is_meant():
    x, y, _ = gaussians(n=40)
    probe = ci.Probe.fit(acts(x, x), y, **ONE)
    assert repr(probe) == f"Probe(logistic at {A} ... {B} (2))"
    assert repr(probe.at(B)) == f"Probe(logistic at {B})"
    same(probe.score(single(x), "blocks.-1.hook_resid_post"), probe.at(B).score(single(x)))
    with pytest.raises(HookPointError, match=f"this probe has 2 hook points, {A} first: say which, hook="):
        probe.score(single(x))
    with pytest.raises(HookPointError, match=r"no hook point 'blocks.7.hook_resid_post': this model has 2 layers"):
        probe.score(single(x), "blocks.7.hook_resid_post")
    with pytest.raises(MismatchError, match=r"activations of shape \(40, 5\) do not end in \(8,\)"):
        probe.score(single(x)[:, :5], A)


def test_one_direction_a_hook_point():
    x, y = torch.randn(10, 3, 4), [True, False] * 5
    several = acts(x, mask=torch.ones(10, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="a Probe has one direction a hook point"):
        ci.Probe.fit(several, y, positions="each")
    assert ci.Probe.fit(several, y, positions="mean", **ONE).score(several, A).shape == (10, 3)
