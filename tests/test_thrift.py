"""What the engine does not hold, copy or do twice."""

import weakref

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp import prefix
from cmrm_interp.hooks import expand
from cmrm_interp.inputs import digest_tensors
from cmrm_interp.interventions.base import Step
from cmrm_interp.positions import Tokens
from tests.support import STREAM, TEXTS, VISION, close, fresh, inputs_of, model_of, picture, vectors


@pytest.mark.parametrize("generating", [False, True])
def test_streams_of_earlier_layers_are_let_go(generating):
    model = fresh("llava", num_hidden_layers=6)
    tensors = dict(inputs_of(model, kind="image").tensors)
    met, alive = [], []

    def visit(activation, step):
        met.append(weakref.ref(activation))
        alive.append(sum(reference() is not None for reference in met))

    @torch.no_grad()
    def call():
        if generating:
            model.hf.generate(**tensors, max_new_tokens=3, do_sample=False, pad_token_id=0)
        else:
            model.hf(**tensors)

    visits = dict.fromkeys(expand(STREAM, model.hook_points), visit)
    model.network.run(call, tensors, visits, generating=generating)
    assert len(met) == (18 if generating else 6)
    assert max(alive) <= 2


# Their tokens see later ones (images, or whole prompts), or other images' rows, or a window that is shorter than a
# beginning: it is not what the model makes of the whole.
NOT_SHARED = ("paligemma", "paligemma2", "gemma3", "gemma4", "mllama", "blip_2", "instructblip", "aya_vision")


@pytest.mark.parametrize("family", VISION)
def test_single_prompts_with_one_image_share_its_prefix(family, monkeypatch):
    model, runs = fresh(family), []
    run = prefix._run_prefix
    monkeypatch.setattr(prefix, "_run_prefix", lambda *given: runs.append(given[-1]) or run(*given))
    for text in TEXTS:
        inputs = model.prepare(text, picture())
        found, wanted = model.capture_last(inputs, STREAM), model.capture(inputs, STREAM)
        for name in wanted:
            close(found[name], wanted[name])
    assert len(runs) == (0 if family in NOT_SHARED else 1)


def test_a_short_beginning_without_an_image_is_no_pass_of_its_own(monkeypatch):
    model, runs = fresh("llava"), []
    run = prefix._run_prefix
    monkeypatch.setattr(prefix, "_run_prefix", lambda *given: runs.append(given[-1]) or run(*given))
    model.capture_last(model.prepare(TEXTS), STREAM)
    assert not runs
    long = model.prepare([" ".join(["cats"] * 40 + [text]) for text in TEXTS])
    last = "blocks.3.hook_resid_post"
    close(model.capture_last(long, last)[last], model.capture(long, last)[last])
    assert len(runs) == 1
    assert runs[0] >= 40


def test_a_shown_prefix_stays_one_row():
    keys, values = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4)
    layer = prefix.Shown(keys, values)
    joined, _ = layer.update(torch.randn(3, 2, 2, 4), torch.randn(3, 2, 2, 4))
    assert joined.shape == (3, 2, 7, 4)
    assert layer.keys is keys
    assert layer.values is values
    assert layer.get_seq_length() == 5


def test_new_tokens_use_what_the_first_one_worked_out():
    real = torch.ones(2, 1, dtype=torch.bool)
    step = Step(Tokens(real, ~real, step=1), torch.arange(2), torch.ones(2, dtype=torch.bool))
    first, second = (step.chosen("last", 1, hook) for hook in ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post"))
    assert (first.hook, second.hook) == ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
    made = []
    for chosen in (first, second):
        chosen.once("key", lambda: made.append(1) or torch.ones(1))
    assert made == [1]


def test_vectors_of_two_directions_at_one_point_are_kept_apart():
    model = model_of("llava")
    inputs, hook = inputs_of(model, kind="image"), "blocks.1.hook_resid_post"
    a, b = vectors(model, hook, seed=1), vectors(model, hook, seed=2)
    both = model.capture(inputs, hook, interventions=[ci.Add(a), ci.Add(b)])[hook]
    close(both, model.capture(inputs, hook)[hook] + a[hook] + b[hook])


def test_half_precision_tensors_have_a_digest():
    tensors = {"pixels": torch.ones(2, 3, dtype=torch.bfloat16), "mask": torch.ones(2, dtype=torch.bool)}
    assert digest_tensors(tensors) == digest_tensors({name: tensor.clone() for name, tensor in tensors.items()})
    assert digest_tensors(tensors) != digest_tensors({**tensors, "pixels": tensors["pixels"] * 2})
