"""Positions in runs: what is captured there, and which passes of a generation are edited."""

import re

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, StoreError
from cmrm_interp.interventions import Step
from cmrm_interp.positions import Tokens, at, chars, find, new, padding, token
from tests.oracles import hooks as oracle
from tests.support import SIDES, TEXTS, close, inputs_of, model_of, picture, same, twin_of, vectors

POST = "blocks.1.hook_resid_post"
N = 5


def prompts():
    """Rows with no image, one and two."""
    images = [None, picture(0), [picture(1, (16, 24)), picture(2, (24, 16))]]
    return [ci.Prompt(text, image, "you are kind") for text, image in zip(TEXTS, images, strict=True)]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "position",
    [
        *(
            "first",
            "user",
            "system",
            at("image", 0),
            at("image", -1),
            find("is", optional=True),
            chars(2, 9),
            padding(),
        ),
        *(at("image") | at(-1), ~at("image"), re.compile("you"), token("you"), lambda tokens: tokens.image),
    ],
)
@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_what_is_captured_is_the_stream_there(family, position, side):
    model = model_of(family)
    inputs = model.prepare(prompts(), padding_side=side)
    whole, mask = model.capture(inputs, POST, "all")[POST], inputs.mask(position)
    acts = model.capture(inputs, POST, position)
    if position == "first":
        assert acts.mask is None
        same(acts[POST], whole[mask])
    else:
        assert acts.mask.sum(1).tolist() == mask.sum(1).tolist()
        same(acts.selected(POST), whole[mask])
    if position != padding():
        other = model.capture(inputs, POST, position, batch_size=1)
        close(other.selected(POST), acts.selected(POST))


def test_captures_remember_their_position(tmp_path):
    model = model_of("llava")
    inputs = inputs_of(model, kind="image")
    position = at("image", 0) | find("ASSISTANT:")
    acts = model.capture(inputs, POST, position, store=tmp_path / "store")
    acts.save(tmp_path / "acts.safetensors")
    again = ci.Activations.load(tmp_path / "acts.safetensors")
    assert again == acts
    assert again.positions == position
    assert model.capture(inputs, POST, position, store=tmp_path / "store") == acts
    # Patching the same run with what it holds there changes nothing.
    close(model.logits(inputs, ci.Patch(again)), model.logits(inputs))
    function = model.capture(inputs, POST, lambda tokens: tokens.image)
    with pytest.raises(StoreError, match="is a function, which a file cannot hold: use the other positions"):
        function.save(tmp_path / "function.safetensors")
    with pytest.raises(StoreError, match="is a function, which a file cannot hold"):
        model.capture(inputs, POST, lambda tokens: tokens.image, store=tmp_path / "function")


@pytest.mark.parametrize("position", ["generated", new(), new(first=2), new(steps=1) & at("all")])
def test_no_token_is_generated_in_a_capture(position):
    model = model_of("llava")
    with pytest.raises(HookPointError, match="a capture runs the prompt alone, in which no token is generated"):
        model.capture(inputs_of(model), POST, position)


def adding(vector, where):
    """A bare edit that adds a vector where `where` says for each pass; the prompt is pass 0."""
    passes = iter(range(99))

    def edit(x):
        mask = where(next(passes), x)
        return x + mask[..., None] * vector

    return edit


@pytest.mark.parametrize(
    ("position", "steps", "prompt"),
    [
        (new(), range(1, 99), None),
        (new(first=2), (1, 2), None),
        (new(steps=[0, 3]), (1, 4), None),
        (new(steps=slice(1, None, 2)), (2, 4, 6), None),
        (~new(first=1) & at("generated"), range(2, 99), None),
        (at(-1) | new(steps=1), (2,), "last"),
        ("last", range(1, 99), "last"),
        (at("image", 0), (), "image"),
        ("assistant", range(1, 99), None),
        (lambda tokens: tokens.real & (tokens.step in (1, 3)), (1, 3), None),
    ],
    ids=lambda value: None if callable(value) else repr(value),
)
@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_generation_is_edited_at_the_tokens_meant_and_no_others(family, position, steps, prompt):
    model, twin = model_of(family), twin_of(family)
    inputs = inputs_of(model, kind="image")
    shift = vectors(model, POST, scale=4.0)

    def where(step, x):
        if step == 0:
            return inputs.mask(prompt) if prompt else torch.zeros(x.shape[:2])
        return torch.full(x.shape[:2], step in steps)

    wanted, *_ = oracle.generate(twin, inputs.tensors, N, {POST: adding(shift[POST], where)})
    got = model.generate_tokens(inputs, ci.Add(shift, positions=position), max_new_tokens=N)
    assert got.tolist() == wanted.tolist()
    same(got, model.generate_tokens(inputs, ci.Add(shift, positions=position), max_new_tokens=N, batch_size=1))


def tokens_of(n):
    real = torch.ones(n, 3, dtype=torch.bool)
    return Tokens(real, torch.zeros_like(real))


def test_steps_keep_what_is_the_same_and_nothing_more():
    asked = []

    def odd(tokens):
        asked.append(tokens.step)
        return tokens.real & (tokens.step % 2 == 1)

    prompt = Step(tokens_of(2), torch.arange(2), torch.ones(2, dtype=torch.bool))
    for step in range(7):
        now = prompt.at(step)
        assert now.number == step
        for _ in range(3):
            assert now.select("last", 3 if step == 0 else 1)[0].tolist() == [0, 1]
            assert now.select(new(first=2), 1)[0].tolist() == ([0, 1] if step in (1, 2) else [])
            assert now.select(at(odd), 1)[0].tolist() == ([0, 1] if step % 2 else [])
            assert now.chosen(at(odd), 1, "h").rows.tolist() == ([0, 1] if step % 2 else [])
        if step > 1:
            assert now.select("last", 1)[0] is prompt.at(1).select("last", 1)[0]
    # A function is asked once a step, whatever the number of layers; no step leaves anything behind.
    assert asked == list(range(7))
    assert len(prompt.kept) <= 10
    assert prompt.at(0) is prompt
