"""Path patching against runs in which everything but the path is really frozen."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.patching import path_patching
from tests.oracles import patching as oracle
from tests.support import TEXTS, close, model_of, picture, twin_of, unchecked

OTHER = ["what is in the cake ?", "tell me about dogs and dogs please you are kind", "how do i make a picture ?"]


def metric(logits):
    """Any function of the next token."""
    return logits[:, 3] - logits[:, 5].tanh()


def runs(family):
    """A clean run with an image and a corrupt one without, or two of other words; and who belongs to whom."""
    model = model_of(family)
    clean = model.prepare(TEXTS, picture(0) if model.family.vision else None)
    corrupt = clean.without_images() if model.family.vision else model.prepare(OTHER)
    a, b = ((x.tensors["input_ids"] * x.tensors["attention_mask"]) for x in (corrupt, clean))
    if model.family.vision:
        pairs = [oracle.counterparts(x, y, model.encoder.image_token) for x, y in zip(a, b, strict=True)]
    else:
        pairs = [[(i, i) for i in range(len(x)) if x[i]] for x in a]
    return model, clean, corrupt, pairs


def group_of(model, head):
    """Heads that share a head's keys and values."""
    size = model.n_heads // (getattr(model.hf.config.get_text_config(), "num_key_value_heads", None) or model.n_heads)
    return [head // size * size + i for i in range(size)]


@pytest.mark.parametrize("through", ["q", "k", "v", "logits"])
@pytest.mark.parametrize("family", ["llava", "gpt2", "gemma2", "qwen2_vl"])
def test_paths_are_those_of_frozen_runs(family, through):
    model, clean, corrupt, pairs = runs(family)
    heads = [1] if through == "q" else group_of(model, 1)
    receivers = None if through == "logits" else [(layer, head) for layer in (2, 3) for head in heads]
    route = {} if receivers is None else {"receivers": receivers, "through": through}
    senders = [(0, 0), (1, 2)]
    found = path_patching(model, clean, corrupt, metric, senders=senders, **route)
    assert found.raw.axes["sender"] == ("0.0", "1.2")
    twin = twin_of(family)
    into = metric(model.logits(clean))
    for place, sender in enumerate(senders):
        want = oracle.path_patched(twin, corrupt.tensors, clean.tensors, pairs, sender, receivers, through)
        got = torch.tensor(found.raw.values()[place]).float()
        close(got, metric(want[:, -1]), 3)
        if place == 1 and through in ("v", "logits"):
            assert (got - into).abs().max() > 1e-4, "the path carries something"


def test_every_head_before_the_receiver():
    model, clean, corrupt, _ = runs("llava")
    found = path_patching(model, clean, corrupt, metric, receivers=(1, 2))
    assert found.raw.axes == {"layer": (0,), "head": tuple(range(model.n_heads))}
    assert "direct path" in repr(found)
    assert len(found.table()) == model.n_heads
    one = path_patching(model, clean, corrupt, metric, senders=(0, 3), receivers=[(1, 2)], through="q")
    assert abs(one.raw.values()[0] - found.raw.values()[0, 3]).max() < 1e-5


def test_words_of_unequal_length_are_left_where_asked():
    model = model_of("llava")
    clean, corrupt = model.prepare(["tell me about cats"], picture(0)), model.prepare(["tell me about a kind cake"])
    heads = {"senders": (0, 1), "receivers": (2, 0)}
    with pytest.raises(ci.errors.MismatchError, match="cannot be aligned"):
        path_patching(model, clean, corrupt, metric, **heads)
    found = path_patching(model, clean, corrupt, metric, **heads, unequal="leave")
    assert found.raw.n == 1


def test_directions_swap_the_runs():
    model, clean, corrupt, _ = runs("llava")
    there = path_patching(model, clean, corrupt, metric, "denoise", senders=(1, 0), receivers=(2, 0))
    back = path_patching(model, corrupt, clean, metric, "noise", senders=(1, 0), receivers=(2, 0))
    assert abs(there.raw.values() - back.raw.values()).max() < 1e-6


@pytest.mark.parametrize(
    ("route", "error", "words"),
    [
        ({"senders": (2, 0), "receivers": (2, 1)}, ci.errors.HookPointError, "a head of layer 2 says nothing directly"),
        ({"senders": (9, 0)}, ci.errors.HookPointError, r"no head \(9, 0\): this model has layers 0-3 with heads 0-3"),
        ({"receivers": (0, 1)}, ci.errors.HookPointError, "a receiver of layer 0 has no head before it"),
        ({"senders": [], "receivers": (2, 1)}, ci.errors.InputError, r"senders=\[\]: give \(layer, head\), or a list"),
        ({"senders": "1.2"}, ci.errors.InputError, "senders='1.2': give"),
        ({"through": "z"}, ci.errors.InputError, "through='z': use 'q', 'k' or 'v'"),
        ({"receiver": (2, 1)}, ci.errors.InputError, "no argument 'receiver': use senders=, receivers=, through="),
    ],
)
def test_what_is_no_path(route, error, words):
    model, clean, corrupt, _ = runs("llava")
    with unchecked(), pytest.raises(error, match=words):
        path_patching(model, clean, corrupt, metric, **route)


def test_heads_that_share_their_keys():
    model, clean, corrupt, _ = runs("qwen2_vl")
    shared = group_of(model, 0)
    assert len(shared) > 1
    with pytest.raises(
        ci.errors.InputError, match=f"heads \\[{shared[0]}, {shared[1]}\\] of layer 2 share what hook_k"
    ):
        path_patching(model, clean, corrupt, metric, senders=(0, 0), receivers=(2, shared[0]), through="k")


def test_streams_that_are_scaled():
    model = model_of("gemma4")
    clean = model.prepare(TEXTS[:1], picture(0))
    with pytest.raises(ci.errors.InputError, match=r"block 0 of .* does more to the stream than to add to it"):
        path_patching(model, clean, clean.without_images(), metric, senders=(0, 0), receivers=(2, 1))
