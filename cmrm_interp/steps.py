"""Activations of a generation, step by step, together with what was generated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from cmrm_interp.activations import Activations, concatenate
from cmrm_interp.axes import Bool, Int, Tensor
from cmrm_interp.capture import Request
from cmrm_interp.decoding import Settings
from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.errors import HookPointError, InputError, MismatchError
from cmrm_interp.generation import generation_edits, joined, run_batch, settings_of
from cmrm_interp.hooks import pos_axis
from cmrm_interp.inputs import Inputs
from cmrm_interp.running import BatchSize, each_batch
from cmrm_interp.tracing import Network, Visit


@dataclass(frozen=True, eq=False)
class Generation:
    """What was generated, and the activations from which each token was chosen.

    Step 0 is the prompt's last token, step ``s`` the new token ``s - 1``: the activation at step ``s`` led to
    ``tokens[:, s]``. The mask of the activations is True up to the token that ends an answer.

    Attributes:
        tokens: ids of the new tokens, padded on the right.
        activations: ``batch step d_model`` a hook point, on the CPU; attention patterns ``batch head step key``,
            where keys that are not there yet are zero (a layer with a sliding window has the keys that it keeps).
        texts: the answers, or None for a model without a tokenizer.
    """

    tokens: Int[Tensor, "batch step"]
    activations: Activations
    texts: list[str] | None = None

    def at(self, step: int) -> Activations:
        """Activations at one step alone, as a capture at a single position gives them.

        Args:
            step: 0 for the prompt's last token; negative ones count from the longest answer's end.

        Raises:
            MismatchError: there is no such step, or some answer ended before it.
        """
        n = self.tokens.shape[1]
        if not -n <= step < n:
            raise MismatchError(f"no step {step}: {n} tokens were generated (0-{n - 1})")
        alive = self.alive[:, step]
        if not bool(alive.all()):
            row = int((~alive).nonzero()[0])
            raise MismatchError(
                f"answer {row} ended after {int(self.alive[row].sum())} tokens, so that it has no step {step % n}:"
                " use .activations and its mask"
            )
        tensors = {name: x.select(pos_axis(name), step) for name, x in self.activations.items()}
        return replace(self.activations, tensors=tensors, mask=None)

    @property
    def alive(self) -> Bool[Tensor, "batch step"]:
        """Which tokens belong to an answer; those after its end are padding."""
        mask = self.activations.mask
        return torch.ones_like(self.tokens, dtype=torch.bool) if mask is None else mask


def generate_with_capture(
    network: Network,
    encoder: Encoder,
    inputs: Inputs,
    request: Request,
    batch_size: BatchSize = "auto",
    **how: Any,
) -> Generation:
    """Generate, and keep the activations of the last token of each pass, after interventions.

    Args:
        network: the model.
        encoder: of the model.
        inputs: what to go on from.
        request: hook points and interventions.
        batch_size: rows a batch.
        **how: as `generate_tokens` takes it.

    Raises:
        HookPointError: a hook point of the vision side, or one that a prompt without an image does not reach.
        InputError: beam search, or as `generate_tokens`.
    """
    settings = settings_of(network, encoder, how)
    _check(network, request, settings)
    parts = list(
        each_batch(
            inputs.left_padded(),
            batch_size,
            lambda batch: _run(network, encoder, batch, request, settings),
            "generate",
        )
    )
    tokens = joined([part[0] for part in parts], settings.pad)
    wide = [_widened(part[1], tokens.shape[1]) for part in parts]
    texts = None if encoder.tokenizer is None else encoder.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return Generation(tokens, concatenate(wide, pad_left=True), texts)


def _run(
    network: Network, encoder: Encoder, batch: Batch, request: Request, settings: Settings
) -> tuple[Tensor, Activations]:
    edits = generation_edits(network, encoder, request.interventions, batch, settings)
    kept: dict[str, list[Tensor]] = {name: [] for name in request.hooks}
    for name in request.hooks:
        if network.needs_image(name) and not network.has_images(batch.tensors):
            raise HookPointError(
                f"{name!r} is only reached with an image: prompts {int(batch.rows[0])}-{int(batch.rows[-1])} have none"
            )
    visits = {**edits, **{name: _Keep(edits.get(name), kept[name], pos_axis(name)) for name in request.hooks}}
    tokens, alive = run_batch(network, batch, visits, settings, kept=(kept,))
    tensors = {name: _stacked(steps, pos_axis(name)) for name, steps in kept.items()}
    return tokens, Activations(tensors, "last", alive, model=request.model)


@dataclass(frozen=True)
class _Keep:
    """A visit that keeps the last token's activation of each pass, after an edit."""

    edit: Visit | None
    steps: list[Tensor]
    axis: int

    def __call__(self, activation: Tensor, step: int) -> Tensor:
        new = activation if self.edit is None else self.edit(activation, step)
        new = activation if new is None else new
        self.steps.append(new.select(self.axis, -1).detach().to("cpu", copy=True))
        return new


def _check(network: Network, request: Request, settings: Settings) -> None:
    if settings.beams > 1:
        raise InputError(
            f"num_beams={settings.beams} orders the rows anew at each step, so that the steps of a row are not those of"
            " one answer: generate without beams, or capture the finished answers"
        )
    for name in request.hooks:
        if network.points[name].is_vision:
            raise HookPointError(
                f"{name!r} holds pieces of images, which a generation sees once and before the first token:"
                " use model.capture"
            )


def _stacked(steps: Sequence[Tensor], axis: int) -> Tensor:
    # A pattern has one more key with each step.
    width = max(step.shape[-1] for step in steps)
    return torch.stack([_padded(step, -1, width) for step in steps], axis)


def _widened(acts: Activations, n: int) -> Activations:
    mask = acts.mask
    if mask is None or mask.shape[1] == n:
        return acts
    missing = n - mask.shape[1]
    tensors = {name: _with_steps(name, x, missing) for name, x in acts.items()}
    return replace(acts, tensors=tensors, mask=_padded(mask, 1, n))


def _with_steps(name: str, x: Tensor, missing: int) -> Tensor:
    axis = pos_axis(name)
    x = _padded(x, axis, x.shape[axis] + missing)
    # Keys of new tokens stand behind those of the prompt, whose padding comes first.
    return _padded(x, -1, x.shape[-1] + missing) if axis == 2 else x


def _padded(x: Tensor, axis: int, size: int) -> Tensor:
    shape = list(x.shape)
    shape[axis] = size - shape[axis]
    return x if shape[axis] == 0 else torch.cat([x, x.new_zeros(shape)], axis)
