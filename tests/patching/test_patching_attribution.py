"""Attribution patching: gradients by hand, exactness in the limit, agreement with the exact grid."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

import cmrm_interp as ci
from cmrm_interp.metrics import named
from cmrm_interp.patching import activation_patching, agreement, attribution_patching
from cmrm_interp.patching.gradients import slopes
from cmrm_interp.patching.grids import Grid, source_of
from cmrm_interp.patching.runs import measured, paired
from tests.oracles import patching as oracle
from tests.support import TEXTS, close, inputs_of, model_of, network, picture, twin_of, unchecked


def metric(logits):
    """Any smooth function of the next token."""
    return logits[:, 3] - logits[:, 5].tanh()


HOOKS = ["hook_resid_pre", "hook_resid_mid", "hook_attn_out", "hook_mlp_out", "attn.hook_z", "attn.hook_q"]


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "paligemma", "gemma2", "gpt2"])
def test_gradients_are_those_of_plain_hooks(family):
    model = model_of(family)
    inputs = inputs_of(model)
    names = [f"blocks.1.{name}" for name in HOOKS] + ["blocks.2.attn.hook_v", "blocks.0.hook_resid_post"]
    batch = inputs.batch(slice(0, len(inputs)))
    found = slopes(model.network, batch, names, named(metric)["metric"])
    wanted = oracle.gradients(twin_of(family), inputs.tensors, names, lambda x: metric(x[:, -1]))
    real = inputs.mask("all")
    for name in names:
        assert found[name].gradient[real].abs().max() > 1e-4
        close(found[name].gradient[real], wanted[name][real], 3)
    assert all(parameter.requires_grad for parameter in model.hf.parameters()), "the model is as it was"
    assert all(parameter.grad is None for parameter in model.hf.parameters())


def test_a_row_is_alone_in_its_gradient():
    model = model_of("llava")
    text, image = model.prepare(TEXTS), model.prepare(TEXTS, picture(0))
    every = attribution_patching(model, image, text, metric, batch_size=3)
    single = attribution_patching(model, image, text, metric, batch_size=1)
    assert abs(every.raw.values() - single.raw.values()).max() < 1e-4


@pytest.mark.parametrize("unit", ["resid_pre", "head"])
def test_exact_in_the_limit(unit):
    """On the way from one run to the other the error of a first-order estimate shrinks with the square."""
    hf, processor = network("llava")
    model = ci.load((hf.double(), processor))
    # In fp64 transformers' own softmax gives nan at padding, so the prompts are of one length.
    texts = ["what is in the picture ?", "tell me about cats and dogs", "how do i make cake ?"]
    clean, corrupt = model.prepare(texts, picture(0)), model.prepare(texts, picture(1))
    one = named(metric)["metric"]
    alignment = paired(clean, corrupt, "denoise")
    cells = Grid(unit, "layer", layers=[0, 2]).cells(model, alignment)
    source, own = source_of(model, alignment, cells), source_of(model, paired(corrupt, corrupt, "denoise"), cells)
    into = measured(model, corrupt, one)
    whole = attribution_patching(model, clean, corrupt, metric, unit=unit, over="layer", layers=[0, 2])
    estimate = (whole.raw.values() - into).reshape(len(cells), -1)
    errors = []
    for share in (0.02, 0.01):
        between = {n: own.activations[n] + share * (t - own.activations[n]) for n, t in source.activations.items()}
        near = replace(source, activations=replace(source.activations, tensors=between))
        exact = np.stack([measured(model, corrupt, one, [cell.patch(near)]) - into for cell in cells])
        errors.append(np.abs(exact - share * estimate))
    assert np.abs(estimate).min() > 1e-6
    large = errors[0] > 1e-7
    assert large.sum() >= 3
    assert (errors[0] < 0.3 * np.abs(0.02 * estimate) + 1e-4).all()
    ratio = errors[0][large] / errors[1][large]
    assert ((ratio > 3) & (ratio < 5)).mean() > 0.8, ratio


def test_the_last_stream_is_exact_for_a_linear_head():
    """Patching what the head reads is exact up to the norm; with a metric linear in the last norm's input, wholly."""
    model = model_of("llava")
    clean, corrupt = model.prepare(TEXTS, picture(0)), model.prepare(TEXTS)
    options = {"unit": "resid_post", "layers": [-1], "positions": ["last"]}
    exact = activation_patching(model, clean, corrupt, metric, **options)
    close(torch.tensor(exact.raw.values()).flatten().float(), metric(model.logits(clean)), 3)
    assert abs(exact.recovered.values().mean() - 1) < 1e-3


def test_agreement_is_scipys_and_sure_of_itself():
    model = model_of("llava")
    clean, corrupt = model.prepare(TEXTS, picture(0)), model.prepare(TEXTS)
    exact, quick = (f(model, clean, corrupt, metric) for f in (activation_patching, attribution_patching))
    found = agreement(exact, quick, seed=1)
    a, b = ((r.raw.values() - r.raw.values(clean=True)).mean(-1).flatten() for r in (exact, quick))
    assert found.pearson == pytest.approx(pearsonr(a, b).statistic)
    assert found.spearman == pytest.approx(spearmanr(a, b).statistic)
    assert found.max_difference == pytest.approx(np.abs(a - b).max())
    assert (found.cells, found.n) == (12, 3)
    for name in ("pearson", "spearman", "max_difference"):
        low, high = found.intervals[name]
        assert low <= getattr(found, name) <= high
    itself = agreement(exact, exact)
    assert (itself.pearson, itself.spearman, itself.max_difference) == (pytest.approx(1), pytest.approx(1), 0)
    assert found == agreement(exact, quick, seed=1)
    assert "first order" in repr(quick)


def test_what_agreement_refuses():
    model = model_of("llava")
    clean, corrupt = model.prepare(TEXTS, picture(0)), model.prepare(TEXTS)
    exact = activation_patching(model, clean, corrupt, metric, layers=[0])
    other = attribution_patching(model, clean, corrupt, metric, layers=[1])
    with pytest.raises(ci.errors.MismatchError, match="two different grids"):
        agreement(exact, other)
    with pytest.raises(ci.errors.MismatchError, match="the one grid has metric 'metric', the other other"):
        agreement(exact, attribution_patching(model, clean, corrupt, {"other": metric}, layers=[0]))
    few = attribution_patching(model, clean, corrupt, metric, layers=[0], positions=["last"])
    with pytest.raises(ci.errors.InputError, match="a correlation over 1 cells"):
        agreement(few, few)
    none = attribution_patching(model, clean, clean, metric)
    with pytest.raises(ci.errors.InputError, match="have the same effect: there is nothing to correlate"):
        agreement(none, none)


def best(logits):
    """A metric without a slope."""
    return logits.argmax(-1).float()


def test_metrics_that_have_no_gradient():
    model = model_of("llava")
    clean, corrupt = model.prepare(TEXTS, picture(0)), model.prepare(TEXTS)
    with pytest.raises(ci.errors.InputError, match="no gradient flows through metric 'best'"):
        attribution_patching(model, clean, corrupt, best)
    with pytest.raises(ci.errors.InputError, match="one metric of the next token's logits"):
        attribution_patching(model, clean, corrupt, [metric, ci.metrics.logit_diff(model, 3, 5)])
    with pytest.raises(ci.errors.InputError, match="not kl_to_clean"):
        attribution_patching(model, clean, corrupt, ci.metrics.kl_to_clean())
    with unchecked(), pytest.raises(ci.errors.InputError, match="use 'denoise'"):
        attribution_patching(model, clean, corrupt, metric, "up")
