"""Models, twins and inputs that the tests of the engine share."""

from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from jaxtyping import config
from PIL import Image

import cmrm_interp as ci
from cmrm_interp.families import tiny
from cmrm_interp.families.tiny import TINY
from tests.oracles import hooks as oracle

FAMILIES = TINY
TEXT = ("llama", "gpt2", "opt", "gemma", "gemma2", "qwen2", "qwen3", "qwen3_moe", "mistral")
VISION = tuple(family for family in FAMILIES if family not in TEXT)
# Models of another family's map, and of nothing but its kinds of modules: read, written and checked, but not all laws.
TWINS = ("qwen2", "qwen3", "mistral", "smolvlm")
LAWFUL = tuple(family for family in FAMILIES if family not in TWINS)
# They take no batch of prompts with different numbers of images: the package runs these apart.
APART = ("paligemma", "paligemma2", "mllama", "blip_2", "instructblip")
# Their random models choose the image token itself, which stands for nothing then.
TALKS_IMAGES = ("llava_next", "glm4v", "pixtral", "deepseek_vl")
SIDES = ("left", "right")
STREAM = "blocks.*.hook_resid_post"
# Sums in another order (padding, batch size, hooks) differ by so much in fp32: of the numbers, and of the largest.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}

TEXTS = ["what is in the picture ?", "tell me about cats and dogs please you are kind", "how do i make a cake ?"]


def network(family, seed=0, eager=True, **config):
    """A network that nothing has wrapped, and its processor."""
    hf, processor = tiny(family, seed=seed, **config)
    if eager:
        hf.set_attn_implementation("eager")
    # End-of-sequence is one token of 52 and would end nearly every random generation.
    for part in (hf, getattr(hf, "language_model", None)):
        if part is not None:
            part.generation_config.eos_token_id = None
    return hf, processor


def fresh(family, seed=0, eager=True, **config):
    """A model of one's own, for tests that may leave something behind."""
    return ci.load(network(family, seed, eager, **config))


@cache
def model_of(family):
    """The model of a family that all tests share."""
    return fresh(family)


@cache
def twin_of(family):
    """The same network, bare, with attention by hand: the oracles' own copy."""
    return oracle.prepared(network(family)[0])


def picture(seed=0, size=(32, 32)):
    """A random picture; ``size`` is width x height."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def inputs_of(model, side="left", kind="mixed", system=None):
    """Three rows of unequal length.

    Args:
        model: what they are for.
        side: where padding goes.
        kind: ``text``, ``image`` (of unequal sizes), ``mixed`` (``image`` for families that cannot mix) or ``apart``
            (mixed all the same: batches then hold rows with equally many images).
        system: system prompt.
    """
    pictures = [picture(0), picture(1, (16, 24)), picture(2, (24, 16))]
    if kind == "text" or model.family.vision is None:
        images = None
    elif kind == "image" or (kind == "mixed" and not model.encoder.mixed):
        images = pictures
    else:
        images = [pictures[0], None, pictures[2]]
    return model.prepare(TEXTS, images, system, padding_side=side)


def quiet(model):
    """Arguments of generation that keep a random model from choosing the image token."""
    chooses = model.family.name in TALKS_IMAGES
    return {"suppress_tokens": [model.hf.config.image_token_id]} if chooses else {}


def vectors(model, points=STREAM, seed=0, scale=1.0):
    """A random vector at each of some hook points of the stream."""
    generator = torch.Generator().manual_seed(seed)
    names = ci.hooks.expand(points, model.hook_points)
    return ci.Directions({name: scale * torch.randn(model.d_model, generator=generator) for name in names})


def reachable(model, kind="mixed"):
    """Hook points that a run on such inputs passes."""
    return [n for n in model.hook_points if kind != "text" or not model.network.needs_image(n)]


def close(a, b, slack=1.0):
    """Equal up to the order of sums, and `slack` times that."""
    sizes = b.float().abs()
    # Masked scores are as low as numbers go.
    largest = float(sizes.where(sizes < 1e30, 0).amax()) if sizes.numel() else 0.0
    torch.testing.assert_close(a, b, rtol=CLOSE["rtol"], atol=slack * CLOSE["atol"] * max(1.0, largest))


def unequal(a, b, slack=1.0):
    """What `close` has against two tensors, in short; None if it has nothing."""
    if a.shape != b.shape:
        return f"shapes {tuple(a.shape)} and {tuple(b.shape)}"
    try:
        close(a, b, slack)
    except AssertionError:
        return f"{float((a - b).abs().clamp(max=1e4).max()):.1e} apart"
    return None


def same(a, b):
    """Equal to the bit."""
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@contextmanager
def unchecked():
    """Without the run-time type checks of the tests: users, who have none, meet the package's own words."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)
