"""Runs of a model: factors between embeddings and stream, and whether baked and live agree."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from cmrm_interp.axes import Int, Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.images import meaningless
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Add, Intervention
from cmrm_interp.model import Model

_TOKENS = 12
_SIZE = (64, 48)
# What the order of sums costs, of the largest value: whole checkpoints are far below it, mistakes far above.
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-4}
_COARSE = 0.1


@dataclass(frozen=True)
class Factors:
    """What an output is multiplied by before it is the stream.

    Attributes:
        text: rows of the embedding.
        embedded: rows of the embedding, in what the embedding returns.
        image: outputs of the projector.
    """

    text: float = 1.0
    embedded: float = 1.0
    image: float = 1.0


@dataclass(frozen=True)
class Agreement:
    """How far apart two models are on a few prompts.

    Attributes:
        logits: largest difference of logits.
        states: largest difference of the final norm's outputs, at every token.
        largest: largest value of the latter; ``moved``: how far the intervention moves them.
        with_image: whether images were among the prompts.
    """

    logits: float
    states: float
    largest: float
    moved: float
    with_image: bool


def probes(model: Model) -> list[Inputs]:
    """A few prompts of random tokens; and of random words and an image, where there is a processor for them."""
    ids = _random_tokens(model)
    found = [model.from_encoding({"input_ids": ids})]
    if model.family.vision is not None and model.processor is not None:
        texts = [model.tokenizer.decode(row) for row in (ids[0], ids[1, : _TOKENS // 2])]
        with suppress(InputError):  # no chat template
            found.append(model.prepare(texts, meaningless("noise", Image.new("RGB", _SIZE))))
    return found


def _random_tokens(model: Model) -> Int[Tensor, "batch pos"]:
    config, tokenizer = model.hf.config, model.tokenizer
    known = set(range(config.get_text_config().vocab_size))
    if tokenizer is not None:
        known &= set(range(len(tokenizer)))
        known -= {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    # Without a tokenizer: any token but those that stand for something (image_token_id, eos_token_id, ...).
    known -= {value for name, value in config.to_dict().items() if "token_i" in name and isinstance(value, int)}
    drawn = torch.randint(0, len(known), (2, _TOKENS), generator=torch.Generator().manual_seed(0))
    return torch.tensor(sorted(known))[drawn]


def factors_of(model: Model, inputs: Sequence[Inputs], with_image: bool) -> Factors:
    """Factors between embeddings and stream, measured.

    Args:
        model: the model.
        inputs: without an image, and with one.
        with_image: whether those of images are needed.

    Raises:
        ModelError: the stream is no multiple of the embedding's rows, or of the projector's outputs.
    """
    text, shown = inputs[0], [given for given in inputs if given.has_images]
    embed = model.hf.get_submodule(model.family.at(model.family.embed)).weight
    ids = text.tensors["input_ids"].to(embed.device)[text.mask("all").to(embed.device)]
    pre = model.capture(text, ["hook_embed", "blocks.0.hook_resid_pre"], "all")
    rows = embed[ids].detach().double().cpu()
    stream, embedded = (
        _ratio(pre.selected(name).double().cpu(), rows, name) for name in ("blocks.0.hook_resid_pre", "hook_embed")
    )
    return Factors(stream, embedded, _image_factor(model, shown[0]) if with_image and shown else 1.0)


def agreement(model: Model, baked: Model, interventions: Sequence[Intervention], inputs: Sequence[Inputs]) -> Agreement:
    """Differences between a baked model and the live interventions.

    Args:
        model: the model that was baked.
        baked: the baked one.
        interventions: run live on the first.
        inputs: prompts, made for `model`.
    """
    found = [_apart(model, baked, interventions, given) for given in inputs]
    worst = [max(column) for column in zip(*found, strict=True)]
    return Agreement(*worst, with_image=any(given.has_images for given in inputs))


def check(found: Agreement, dtype: torch.dtype, name: str) -> None:
    """Refuse a baked model that is not the live one.

    Raises:
        ModelError: they differ by more than rounding.
    """
    if not math.isfinite(found.largest):
        raise ModelError(f"{name} itself gives no numbers (NaN) under the live intervention: nothing can be compared")
    allowed = _ROUNDING.get(dtype, _COARSE) * found.largest
    if dtype not in _ROUNDING and found.moved > allowed:
        allowed = max(allowed, found.moved / 2)
    if not found.states <= allowed:
        raise ModelError(
            f"baked into {name}, this is not what it is live: final states differ by {found.states:.2g} (the"
            f" intervention moves them by {found.moved:.2g}): something writes to the stream that the family's map does"
            " not show, so nothing was kept; run it live"
        )


def _apart(model: Model, baked: Model, interventions: Sequence[Intervention], given: Inputs) -> list[float]:
    hook = "ln_final.hook_out"
    live, plain, states = (
        which.capture(given, hook, "all", acting).selected(hook).double()
        for which, acting in ((model, interventions), (model, ()), (baked, ()))
    )
    logits = model.logits(given, interventions).double() - baked.logits(given).double()
    return [_far(logits), _far(states - live), _far(live), _far(live - plain)]


def _ratio(seen: Tensor, rows: Tensor, name: str) -> float:
    factor = float((seen * rows).sum() / (rows * rows).sum())
    if _far(seen - factor * rows) > 1e-2 * _far(seen):
        raise ModelError(f"{name!r} is no multiple of the embedding's rows: they cannot hold an addition to it")
    return factor


def _image_factor(model: Model, shown: Inputs) -> float:
    """Move the projector's outputs and see how far the stream moves."""
    pre, point = "blocks.0.hook_resid_pre", "projector.hook_out"
    plain = model.capture(shown, pre, "image").selected(pre).double()
    vector = torch.full((plain.shape[-1],), float(plain.std()))
    nudge = Add(Directions({point: vector}), positions="all")
    moved = model.capture(shown, pre, "image", nudge).selected(pre).double() - plain
    # The median: some image tokens are learned vectors and not the projector's.
    return float(moved.median() / vector[0])


def _far(x: Any) -> float:
    return float(x.abs().max())
