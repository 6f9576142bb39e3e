"""Projected gradient descent, against ten lines with Hugging Face alone and against finite differences."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.attacks import PGD, answer_loss, pixel_space
from cmrm_interp.errors import InputError, ModelError
from tests.oracles import attacks as oracle
from tests.support import TEXTS, fresh, model_of, picture, same, twin_of, unchecked

TARGETS = ["a cake", "dogs and cats", "you"]
SIZES = [(32, 32), (16, 24), (24, 16)]
# As LLaVA and most see a picture; patches, each twice; tiles that are padded; pictures padded to the largest.
WHOLE = ("llava", "qwen2_vl", "mllama", "pixtral")


def shown(model, n=3):
    return model.prepare(TEXTS[:n], [picture(k, SIZES[k]) for k in range(n)])


@pytest.mark.parametrize("family", WHOLE)
def test_pictures_are_found_in_the_pixels_and_put_back(family):
    model = model_of(family)
    inputs = shown(model)
    space = pixel_space(model, inputs)
    made = space.encoding(space.values)
    torch.testing.assert_close(made[space.name], inputs.tensors[space.name], rtol=0, atol=1e-5)
    other = torch.rand(space.values.shape, generator=torch.Generator().manual_seed(1))
    images = space.images(other)
    eight_bits = torch.cat([torch.from_numpy(np.array(image)).flatten() for image in images]) / 255
    again = model.prepare(space.shown(images)).tensors[space.name]
    torch.testing.assert_close(space.encoding(eight_bits)[space.name], again, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", WHOLE)
def test_the_targets_become_likelier_within_the_ball(family):
    model, inputs = model_of(family), shown(model_of(family))
    clean = [
        np.asarray(image).astype(int) for image in pixel_space(model, inputs).images(pixel_space(model, inputs).values)
    ]
    for steps in (8, 8.7):
        found = PGD(epsilon=steps / 255, step=2 / 255, steps=6).attack(model, inputs, TARGETS)
        assert (found.after < found.before - 0.05).all()
        moved = [np.asarray(image).astype(int) - was for image, was in zip(found.images, clean, strict=True)]
        assert max(abs(change).max() for change in moved) == 8
        torch.testing.assert_close(found.before, answer_loss(model, inputs, TARGETS))
        torch.testing.assert_close(found.after, answer_loss(model, found.inputs, TARGETS))
        # Rounding to 8 bits changes little.
        torch.testing.assert_close(found.after, found.loss.min(0).values, rtol=0.05, atol=0.02)


def test_as_by_hand():
    model, twin = model_of("llava"), twin_of("llava")
    inputs = model.prepare(TEXTS[:1], picture(0))
    attack = PGD(epsilon=12 / 255, step=2 / 255, steps=5, seed=3)
    found = attack.attack(model, inputs, "a cake")
    tensors = model.prepare(TEXTS[:1], picture(0)).tensors
    ids = model.tokenizer("a cake", add_special_tokens=False)["input_ids"]
    mean, std = (torch.tensor(v)[None, :, None, None] for v in statistics(model))
    clean = tensors["pixel_values"] * std + mean
    low, high = (clean - 12 / 255).clamp(min=0), (clean + 12 / 255).clamp(max=1)
    chance = torch.rand(32 * 32 * 3, generator=torch.Generator().manual_seed(3)).view(1, 32, 32, 3).movedim(3, 1)
    steps = list(islice(oracle.pgd(twin, tensors, ids, mean, std, 12 / 255, 2 / 255, low + (high - low) * chance), 6))
    torch.testing.assert_close(found.loss[:, 0], torch.tensor([loss for _, loss in steps]), rtol=2e-3, atol=1e-3)
    best = min(steps, key=lambda step: step[1])[0][0].movedim(0, 2)
    assert np.mean(np.asarray(found.images[0]) == (best * 255).round().byte().numpy()) > 0.99


def test_gradients_are_those_of_finite_differences():
    model = model_of("qwen2_vl")
    inputs = shown(model, 2)
    space = pixel_space(model, inputs)
    _, gradient = PGD(batch_size=1)._slope(model, space, _answers(model, 2), space.values)
    direction = torch.randn(space.values.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ahead, behind = (
            _answers(model, 2).loss(model, space.encoding(space.values + step * direction)).sum()
            for step in (1e-3, -1e-3)
        )
    torch.testing.assert_close(gradient @ direction, (ahead - behind) / 2e-3, rtol=0.02, atol=1e-3)


def test_one_change_for_all_pictures():
    model = model_of("llava")
    inputs = model.prepare(TEXTS, [picture(k) for k in range(3)])
    found = PGD(epsilon=20 / 255, step=4 / 255, steps=6, universal=True).attack(model, inputs, "a cake")
    assert found.after.mean() < found.before.mean() - 0.05
    changes = np.stack([np.asarray(i).astype(int) - np.asarray(picture(k)) for k, i in enumerate(found.images)])
    edge = np.stack([(np.asarray(i) == 0) | (np.asarray(i) == 255) for i in found.images]).any(0)
    # Where black and white are not met, up to rounding.
    assert (np.ptp(changes, axis=0)[~edge] <= 1).all()
    assert abs(changes).max() == 20


def test_seeds_repeat_and_the_model_is_left_alone():
    model = fresh("llava")
    inputs = model.prepare(TEXTS[:1], picture(0))
    learning = [p.requires_grad for p in model.hf.parameters()]
    one, again, other = (PGD(steps=2, seed=seed).attack(model, inputs, "you") for seed in (0, 0, 1))
    same(one.loss, again.loss)
    assert one.images == again.images
    assert (one.loss[0] != other.loss[0]).all()
    assert [p.requires_grad for p in model.hf.parameters()] == learning
    assert all(p.grad is None for p in model.hf.parameters())
    assert not model.hf.training


def test_the_figure_is_the_loss():
    model = model_of("llava")
    found = PGD(steps=3).attack(model, model.prepare(TEXTS[:2], picture(0)), "you")
    (line,) = found.plot().axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), found.loss.mean(1).numpy(), rtol=1e-6)


def test_inputs_without_pictures_are_refused():
    model = model_of("llava")
    attack = PGD(steps=1)
    with pytest.raises(InputError, match="1 of the 2 prompts have no image, and there are no pixels to change"):
        attack.attack(model, model.prepare(TEXTS[:2], [picture(0), None]), "you")
    encoded = model.from_encoding(model.prepare(TEXTS[:1], picture(0)).tensors)
    with pytest.raises(InputError, match=r"made by from_encoding and have no prompts: use model\.prepare"):
        attack.attack(model, encoded, "you")
    seen = model_of("qwen2_vl")
    with pytest.raises(InputError, match=r"one change for all pictures needs pictures of one size, .* sees 16 x"):
        PGD(steps=1, universal=True).attack(seen, shown(seen), "you")


def test_processors_that_cut_pictures_are_refused():
    model = model_of("llava_next")
    with pytest.raises(
        ModelError, match=r"cuts pictures into crops, or normalises each by what is on it.*sees a picture"
    ):
        PGD(steps=1).attack(model, shown(model), "you")


def test_a_processor_that_looks_at_the_content_is_refused(monkeypatch):
    model = fresh("llava")
    call = type(model.encoder)._call

    def _stretched(self, *arguments):
        encoded = dict(call(self, *arguments))
        pixels = encoded["pixel_values"]
        return {**encoded, "pixel_values": pixels / (1 + pixels.std())}

    monkeypatch.setattr(type(model.encoder), "_call", _stretched)
    with pytest.raises(ModelError, match="normalises each by what is on it"):
        pixel_space(model, model.prepare(TEXTS[:1], picture(0)))


def test_models_without_gradients_are_refused():
    model = fresh("llava")
    inputs = model.prepare(TEXTS[:1], picture(0))
    model.hf.config.quantization_config = {"load_in_4bit": True}
    with pytest.raises(ModelError, match=r"are quantised, and no gradient to trust flows.*in bf16 or fp32"):
        PGD(steps=1).attack(model, inputs, "you")
    del model.hf.config.quantization_config
    forward = model.hf.forward

    @torch.no_grad()
    def _without(*arguments, **named):
        return SimpleNamespace(logits=forward(*arguments, **named).logits)

    model.hf.forward = _without
    with pytest.raises(
        ModelError, match=r"no gradient flows from the answers of .* to its pixels: load it in bf16 or fp32"
    ):
        PGD(steps=1).attack(model, inputs, "you")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epsilon": 16.0}, "epsilon is 16.0: give a number above 0 and up to 1"),
        ({"step": float("nan")}, "step is nan: give a number above 0"),
        ({"steps": 0}, "steps is 0: give at least 1"),
        ({"batch_size": 0}, "batch_size is 0: give at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with unchecked(), pytest.raises(InputError, match=words):
        PGD(**settings)


def statistics(model):
    own = model.processor.image_processor
    return own.image_mean, own.image_std


def _answers(model, n):
    from cmrm_interp.attacks.likelihood import Answers

    return Answers.of(model, TARGETS[:n], n)


def test_a_model_elsewhere_is_refused():
    model = fresh("llava")
    model.network.__class__ = type("Elsewhere", (ci.remote.RemoteNetwork,), {"__del__": lambda self: None})
    with pytest.raises(ModelError, match="an attack takes gradients on this machine: load the model without remote="):
        answer_loss(model, model.prepare(TEXTS[:1]), "you")
