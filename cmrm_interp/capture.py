"""Capture: activations of inputs at hook points, streamed a batch at a time."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from cmrm_interp.activations import KIND, Activations, concatenate
from cmrm_interp.axes import Bool, Tensor
from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.families.maps import Point
from cmrm_interp.hooks import expand, pos_axis
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.positions import Position, Tokens, as_selector, position_mask, simple, to_data
from cmrm_interp.running import BatchSize, each_batch, edits, forward, patch_mask
from cmrm_interp.shards import Shards
from cmrm_interp.signature import Signer
from cmrm_interp.tracing import Network, Visit


@dataclass(frozen=True)
class Request:
    """What to capture.

    Attributes:
        hooks: hook points, in forward order.
        positions: tokens that are kept.
        interventions: applied while capturing; what is captured is the activation after them.
        model: fingerprint written into the result.
    """

    hooks: tuple[str, ...]
    positions: Position = "last"
    interventions: tuple[Intervention, ...] = field(default=())
    model: str | None = None

    @classmethod
    def of(cls, network: Network, hooks: str | Sequence[str], positions: Position, **rest: Any) -> "Request":
        """A request whose patterns are expanded and checked against a model.

        Raises:
            HookPointError: a hook point or position that there is not.
        """
        if not as_selector(positions).in_prompt:
            raise HookPointError(
                "a capture runs the prompt alone, in which no token is generated: use another position"
            )
        return cls(tuple(expand(hooks, list(network.points))), simple(positions), **rest)


def stream(
    network: Network,
    encoder: Encoder,
    inputs: Inputs,
    request: Request,
    batch_size: BatchSize = "auto",
    start: int = 0,
) -> Iterator[Activations]:
    """Activations of one batch after another, on the CPU; memory does not grow with the inputs.

    Args:
        network: the model.
        encoder: of the model.
        inputs: what to run.
        request: what to keep.
        batch_size: rows a batch, or ``"auto"``.
        start: first row.
    """
    yield from each_batch(
        inputs, batch_size, lambda batch: capture_batch(network, encoder, batch, request), "capture", start
    )


def capture(
    network: Network,
    encoder: Encoder,
    inputs: Inputs,
    request: Request,
    batch_size: BatchSize = "auto",
    folder: str | os.PathLike[str] | None = None,
) -> Activations:
    """Activations of all inputs; with a folder, written there as they come, and resumed after a stop.

    Raises:
        InputError: a folder for patches of images, of which some row has none.
        MismatchError: the folder holds another capture.
        StoreError: it cannot be written, or is damaged, or the positions are a function.
    """
    left = inputs.padding_side == "left"
    if folder is None:
        return concatenate(list(stream(network, encoder, inputs, request, batch_size)), left)
    if any(network.points[name].is_vision for name in request.hooks) and not inputs.rows_with_image.all():
        # A block of a folder has one entry a prompt at every hook point.
        raise InputError("store= needs an image in every prompt for hook points of the vision side: leave store= out")
    shards = Shards(folder, _header(request, inputs))
    for acts in stream(network, encoder, inputs, request, batch_size, start=shards.done):
        shards.append(acts.everything(), acts.n_rows)
    # Files hold their tensors in the order of the alphabet, in which block 10 comes before block 2.
    blocks = ({name: block[name] for name in request.hooks} | block for block in shards)
    return concatenate([Activations.from_everything(t, request.positions, request.model) for t in blocks], left)


def capture_batch(network: Network, encoder: Encoder, batch: Batch, request: Request) -> Activations:
    """Activations of one batch; the forward pass is left after the last hook point."""
    kept: dict[str, Tensor] = {}
    patches: dict[str, Tensor] = {}
    visits = edits(network, encoder, request.interventions, batch)
    mask = position_mask(request.positions, batch.tokens)
    for name in request.hooks:
        point = network.points[name]
        if network.needs_image(name) and not network.has_images(batch.tensors):
            _refuse_tokens(point, batch)
            continue
        keep = (
            _KeepPatches(kept, patches, point, batch.tensors)
            if point.is_vision
            else _KeepTokens(kept, mask, request.positions)
        )
        visits[name] = _Then(visits.get(name), keep, name)
    forward(network, batch, visits, stop=True, kept=(kept, patches))
    several = not as_selector(request.positions).single
    own = _compact(mask[..., None], mask)[..., 0] if several and request.positions not in ("all", "prompt") else mask
    return Activations(
        {name: kept[name] for name in request.hooks if name in kept},
        request.positions,
        own if several else None,
        patches,
        request.model,
    )


def _refuse_tokens(point: Point, batch: Batch) -> None:
    if not point.is_vision:
        first, last = int(batch.rows[0]), int(batch.rows[-1])
        raise HookPointError(f"{point.name!r} is only reached with an image: prompts {first}-{last} have none")


def keep_last(hooks: Sequence[str], tokens: Tokens, found: dict[str, Tensor]) -> dict[str, Visit]:
    """Visits that put the activation at each row's last token into `found`."""
    keep = _KeepTokens(found, position_mask("last", tokens), "last")
    return {name: _Then(None, keep, name) for name in hooks}


@dataclass(frozen=True)
class _KeepTokens:
    kept: dict[str, Tensor]
    mask: Bool[Tensor, "batch pos"]
    positions: Position

    @cached_property
    def single(self) -> tuple[Tensor, ...] | None:
        """Row and column of the one token that each row keeps; None where it may keep several."""
        return self.mask.nonzero(as_tuple=True) if as_selector(self.positions).single else None

    def __call__(self, activation: Tensor, name: str) -> None:
        axis = pos_axis(name)
        moved = activation.movedim(axis, 1)
        if self.positions in ("all", "prompt"):
            self.kept[name] = activation.detach().to("cpu", copy=True)
        elif self.single is not None:
            self.kept[name] = moved[self.single].detach().cpu()
        else:
            self.kept[name] = _compact(moved, self.mask).movedim(1, axis).detach().cpu()


@dataclass(frozen=True)
class _KeepPatches:
    kept: dict[str, Tensor]
    masks: dict[str, Tensor]
    point: Any
    tensors: Mapping[str, Tensor]

    def __call__(self, activation: Tensor, name: str) -> None:
        self.kept[name] = activation.detach().to("cpu", copy=True)
        self.masks[name] = patch_mask(self.point, self.tensors, activation.shape)


@dataclass(frozen=True)
class _Then:
    edit: Visit | None
    keep: Any
    name: str

    def __call__(self, activation: Tensor, step: int) -> Tensor:
        new = activation if self.edit is None else self.edit(activation, step)
        new = activation if new is None else new
        self.keep(new, self.name)
        return new


def _compact(x: Tensor, mask: Bool[Tensor, "batch pos"]) -> Tensor:
    rows, columns = mask.nonzero(as_tuple=True)
    counts = mask.sum(1)
    out = x.new_zeros((x.shape[0], int(counts.max()), *x.shape[2:]))
    out[rows, torch.arange(rows.numel()) - (counts.cumsum(0) - counts)[rows]] = x[rows, columns]
    return out


def _header(request: Request, inputs: Inputs) -> dict[str, Any]:
    # Two functions may have one name, so a capture at a function's positions could not be known again.
    to_data(request.positions)
    sign = Signer()
    return {
        "kind": KIND,
        "hooks": list(request.hooks),
        "positions": repr(request.positions),
        "interventions": [sign(i) for i in request.interventions],
        "model": request.model,
        "inputs": inputs.fingerprint(),
    }
