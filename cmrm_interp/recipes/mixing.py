"""Decoding by more than one voice: logits of several prompts are mixed, and all go on with the same token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from cmrm_interp.axes import Bool, Float, Int, Tensor
from cmrm_interp.encoding import Batch, Encoder, PaddingSide
from cmrm_interp.errors import InputError, MismatchError, ModelError
from cmrm_interp.generation import joined, run_batch, settings_of
from cmrm_interp.inputs import Inputs
from cmrm_interp.model import Model
from cmrm_interp.positions import Source
from cmrm_interp.prompts import Prompt
from cmrm_interp.remote import RemoteNetwork
from cmrm_interp.running import BatchSize, each_batch

Mix = Callable[[Float[Tensor, "prompts streams vocab"]], Float[Tensor, "prompts vocab"]]
"""From the logits of each prompt's streams to the logits that its next token is chosen by."""


def generate_mixed(
    model: Model,
    streams: Sequence[Inputs],
    mix: Mix,
    max_new_tokens: int = 64,
    batch_size: BatchSize = "auto",
    **generation: Any,
) -> list[str]:
    """Answers whose every token is chosen from the mixed logits of several prompts.

    The streams of a prompt stand in one batch, and each goes on with the token that was chosen. A token that
    generation forbids in one of the streams (``suppress_tokens``, ``no_repeat_ngram_size``...) stays forbidden.

    Args:
        model: that answers.
        streams: inputs of equally many prompts each; row ``i`` of all of them makes answer ``i``. Made by `prepare`.
        mix: what the next token is chosen by; called for each token.
        max_new_tokens: at most so many.
        batch_size: prompts a batch, each of which has a row for every stream.
        **generation: as `Model.generate` takes it, without beams and several answers a prompt; sampling needs a
            ``seed``.

    Returns:
        An answer a prompt.

    Raises:
        InputError: streams of unequal numbers of prompts, or ways of generation that mixing does not know.
        MismatchError: `mix` gives another shape than ``prompts vocab``.
        ModelError: the model has no tokenizer, runs elsewhere, or cannot run the streams in one batch.
    """
    together = _together(model, streams)
    mixed = _Mixed(mix, len(streams))
    how = {"max_new_tokens": max_new_tokens, **generation}
    new = generate_steered(model, together, lambda _: mixed, batch_size, **how)
    return model.tokenizer.batch_decode(new[:: len(streams)], skip_special_tokens=True)


def generate_steered(
    model: Model, inputs: Inputs, steering: Callable[[Batch], LogitsProcessor], batch_size: BatchSize, **how: Any
) -> Int[Tensor, "rows new"]:
    """New tokens, with a processor of logits that is made for each batch.

    It comes after what `generate` does to logits by itself, and before other processors, temperature and the like.

    Args:
        model: that answers.
        inputs: what to go on from.
        steering: makes the processor of a batch, which is padded on the left.
        batch_size: rows of the inputs a batch.
        **how: as `Model.generate_tokens` takes it.

    Raises:
        InputError: beams, several answers a prompt, or sampling without a seed.
        ModelError: the model has no tokenizer or runs elsewhere.
    """
    _check(model, inputs, how)
    others = how.pop("logits_processor", None) or ()

    def _run(batch: Batch) -> Tensor:
        processors = LogitsProcessorList([steering(batch), *others])
        settings = settings_of(model.network, model.encoder, {**how, "logits_processor": processors})
        return run_batch(model.network, batch, {}, settings)[0]

    pad = settings_of(model.network, model.encoder, how).pad
    return joined(list(each_batch(inputs.left_padded(), batch_size, _run, "generate")), pad)


@dataclass(frozen=True, repr=False)
class _Together(Inputs):
    """Streams of prompts, of which those of one prompt stand one after another and are never parted."""

    encoder: Encoder
    every: Inputs
    n_streams: int
    padding_side: PaddingSide = "left"

    def __len__(self) -> int:
        """Number of prompts, each with all its streams."""
        return len(self.every) // self.n_streams

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Prompts of all streams."""
        return self.every.prompts

    @property
    def image_counts(self) -> Int[Tensor, " prompts"]:
        """Images of each prompt in its first stream."""
        return self.every.image_counts[:: self.n_streams]

    def left_padded(self) -> "_Together":
        """They are."""
        return self

    def fingerprint(self) -> str:
        """Hash of all streams."""
        return self.every.fingerprint()

    def read(self, rows: slice) -> tuple[dict[str, Tensor], Source]:
        """Tensors of all streams of some prompts."""
        return self.every.read(self._rows(rows))

    def batch(self, rows: slice) -> Batch:
        """All streams of some prompts; those of one have its number as their row, and so draw alike."""
        own = torch.arange(rows.start, rows.stop).repeat_interleave(self.n_streams)
        return replace(self.every.batch(self._rows(rows)), rows=own)

    def _rows(self, rows: slice) -> slice:
        return slice(rows.start * self.n_streams, rows.stop * self.n_streams)


class _Mixed(LogitsProcessor):
    """Gives each stream of a prompt the mixed scores of all of them."""

    def __init__(self, mix: Mix, n_streams: int) -> None:
        self.mix, self.n_streams = mix, n_streams

    def __call__(self, input_ids: Tensor, scores: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        groups = scores.unflatten(0, (-1, self.n_streams))
        mixed = self.mix(groups)
        if mixed.shape != groups[:, 0].shape:
            raise MismatchError(
                f"mix gave scores of shape {tuple(mixed.shape)} for logits of shape {tuple(groups.shape)}: they have to"
                f" be prompts x vocab, {tuple(groups[:, 0].shape)}"
            )
        # What is forbidden has a score of -inf, which differences make no number, or the highest of all.
        mixed = mixed.masked_fill(groups.isneginf().any(1), -torch.inf)
        _check_numbers(mixed.isnan())
        return mixed.repeat_interleave(self.n_streams, 0)


def _check_numbers(lost: Bool[Tensor, "prompts vocab"]) -> None:
    if bool(lost.any()):
        raise InputError(
            f"mix gave scores that are no numbers (NaN) for {int(lost.any(1).sum())} prompts: tokens that generation"
            " forbids have a logit of -inf, which can be neither taken from itself nor multiplied by 0"
        )


def _together(model: Model, streams: Sequence[Inputs]) -> _Together:
    if not streams:
        raise InputError("nothing to mix: give one inputs for each stream of prompts, each from model.prepare(...)")
    counts = [len(inputs) for inputs in streams]
    if len(set(counts)) > 1:
        raise InputError(
            f"streams of {', '.join(map(str, counts))} prompts cannot be mixed: row i of every stream makes answer i"
        )
    groups = list(zip(*(inputs.prompts for inputs in streams), strict=True))
    if not model.encoder.mixed and any(len({len(prompt.images) for prompt in group}) > 1 for group in groups):
        raise ModelError(
            f"{model.name} ({model.family.name}) cannot run prompts with different numbers of images in one batch: give"
            " every stream of a prompt the same images"
        )
    return _Together(model.encoder, model.prepare(list(chain.from_iterable(groups))), len(streams))


def _check(model: Model, inputs: Inputs, how: dict[str, Any]) -> None:
    if model.tokenizer is None:
        raise ModelError("this model was loaded without a tokenizer, and its answers could not be read")
    if isinstance(model.network, RemoteNetwork):
        raise ModelError("decoding with mixed logits needs the model here: load it without remote=")
    # A generation_config may ask for any of this, too.
    settings = settings_of(model.network, model.encoder, how)
    for name, n in (("num_beams", settings.beams), ("num_return_sequences", settings.answers)):
        if n != 1:
            raise InputError(f"{name}={n}: mixed logits make one answer a prompt, greedy or sampled; leave it out")
    seed = settings.seed
    if settings.how["do_sample"] and seed is None:
        raise InputError("do_sample=True without a seed: prompts whose logits are mixed have to draw alike, give seed=")
    if isinstance(seed, Sequence) and len(seed) != len(inputs):
        raise InputError(f"{len(seed)} seeds for {len(inputs)} prompts: give one for all, or one for each")
