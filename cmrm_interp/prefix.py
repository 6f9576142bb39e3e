"""Prompts that begin alike: the common beginning (template and image) is run once, its keys and values kept.

CMRM's sample level runs every request with a blank image and without one. All these prompts share their
template and the blank image, which on a real model are most of the tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from cmrm_interp.activations import Activations, concatenate
from cmrm_interp.axes import Int, Tensor
from cmrm_interp.capture import Request, capture_batch, keep_last
from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.errors import HookPointError
from cmrm_interp.inputs import Inputs, digest_tensors, move_padding
from cmrm_interp.positions import Tokens, last_index
from cmrm_interp.running import BatchSize, each_batch, to_device
from cmrm_interp.tracing import Network

# A shorter beginning without an image costs more as a pass of its own than it saves.
WORTHWHILE = 32


@dataclass
class PrefixCache:
    """Keys and values of the prefixes met last.

    Attributes:
        size: how many are kept.
        entries: by hash of tokens and pixels; the one used last comes last.
    """

    size: int = 2
    entries: dict[str, DynamicCache] = field(default_factory=dict)

    def get(self, key: str, make: Any) -> DynamicCache:
        """The entry of a key, made if it is not there."""
        entry = self.entries.pop(key) if key in self.entries else make()
        self.entries[key] = entry
        while len(self.entries) > self.size:
            del self.entries[next(iter(self.entries))]
        return entry


def capture_last(
    network: Network,
    encoder: Encoder,
    inputs: Inputs,
    request: Request,
    cache: PrefixCache,
    batch_size: BatchSize = "auto",
) -> Activations:
    """Activations at the last token, with the common beginning of each batch run once.

    The result is that of `capture` up to rounding. Batches that have nothing in common are run as a whole, and so are
    models whose tokens see later ones, or whose layers forget earlier ones.

    Args:
        network: the model.
        encoder: of the model.
        inputs: what to run.
        request: hook points of the decoder, at position ``"last"``, without interventions.
        cache: keys and values from earlier calls.
        batch_size: rows a batch.

    Raises:
        HookPointError: another position, interventions, or hook points that are not of the decoder's blocks.
    """
    _check(network, request)

    def _run(batch: Batch) -> Activations:
        if not network.family.shares_prefix or forgets(network, batch.tokens.real.shape[1]):
            return capture_batch(network, encoder, batch, request)
        batch = _right_padded(batch)
        length = common_length(encoder, batch)
        if length == 0:
            return capture_batch(network, encoder, batch, request)
        key = f"{network.weights_version()}:{digest_tensors(_first_row(encoder, batch, length))}"
        kept = cache.get(key, lambda: _run_prefix(network, encoder, batch, length))
        return _run_suffix(network, batch, request, kept, length)

    return concatenate(list(each_batch(inputs, batch_size, _run, "capture")))


def common_length(encoder: Encoder, batch: Batch) -> int:
    """Tokens that all rows of a right-padded batch begin with, image included; 0 if that is not worth using.

    At least one token of each row is left out, to be run on its own; the images must be the same. With images
    it ends behind them: words that the prompts of one batch happen to have in common, or all words of a single
    prompt, would make a beginning that no other batch has.
    """
    ids, real, image = batch.tensors["input_ids"], batch.tokens.real, batch.tokens.image
    same = (ids == ids[:1]) & real
    length = int(same.all(0).long().cumprod(0).sum())
    length = min(length, int(real.sum(1).min()) - 1)
    if bool(image[:, length:].any()) or not _same_images(encoder, batch):
        return 0
    if bool(image.any()):
        return int(last_index(image[:1])) + 1
    return length if len(ids) > 1 and length >= WORTHWHILE else 0


def _check(network: Network, request: Request) -> None:
    outside = [name for name in request.hooks if not name.startswith(("blocks.", "ln_final", "unembed"))]
    if request.positions != "last" or request.interventions or outside:
        raise HookPointError(
            "a shared prefix works for clean activations of the decoder's blocks at 'last' alone:"
            f" asked for {', '.join(outside) or repr(request.positions)}; use model.capture"
        )


def _right_padded(batch: Batch) -> Batch:
    real = batch.tokens.real
    if bool(real[:, 0].all()):
        return batch
    tensors = move_padding(batch.tensors, real, "right")
    moved = move_padding({"real": real, "image": batch.tokens.image}, real, "right")
    tokens = Tokens(moved["real"], moved["image"])
    return Batch(tensors, tokens, batch.rows, batch.has_image)


def _same_images(encoder: Encoder, batch: Batch) -> bool:
    if not bool(batch.has_image.any()):
        return True
    n = len(batch.rows)
    first = _pixels_of(encoder, batch, 0)
    return all(_equal(first, _pixels_of(encoder, batch, row)) for row in range(1, n))


def _pixels_of(encoder: Encoder, batch: Batch, row: int) -> dict[str, Tensor]:
    alone = encoder.slice_rows(batch.tensors, slice(row, row + 1))
    return {name: tensor for name, tensor in alone.items() if name in encoder.pixels}


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[n].shape == b[n].shape and torch.equal(a[n], b[n]) for n in a)


def _first_row(encoder: Encoder, batch: Batch, length: int) -> dict[str, Tensor]:
    row = encoder.slice_rows(batch.tensors, slice(0, 1))
    shape = batch.tokens.real[:1].shape
    return {name: t[:, :length] if t.shape == shape else t for name, t in row.items()}


def _run_prefix(network: Network, encoder: Encoder, batch: Batch, length: int) -> DynamicCache:
    tensors = to_device(network, _first_row(encoder, batch, length))
    result: list[Any] = []

    @torch.no_grad()
    def _call() -> None:
        result.append(network.hf(**tensors, use_cache=True, logits_to_keep=1).past_key_values)

    network.run(_call, tensors, {})
    return result[0]


def _run_suffix(network: Network, batch: Batch, request: Request, kept: DynamicCache, length: int) -> Activations:
    suffix = Tokens(batch.tokens.real[:, length:], batch.tokens.image[:, length:])
    given = {
        "input_ids": batch.tensors["input_ids"][:, length:],
        "attention_mask": batch.tokens.real.long(),
        "position_ids": positions_of(network, batch)[..., length:],
    }
    tensors = to_device(network, given)
    found: dict[str, Tensor] = {}
    visits = keep_last(request.hooks, suffix, found)

    @torch.no_grad()
    def _call() -> None:
        network.hf(**tensors, past_key_values=shown(kept), use_cache=True, logits_to_keep=1)

    network.run(_call, tensors, visits, stop=True)
    return Activations({name: found[name] for name in request.hooks}, "last", model=request.model)


class Shown(DynamicLayer):
    """Keys and values of a prefix, shown to every row: joined to those of later tokens for one attention at a time.

    They are never copied for each row or variant beyond that. Keys and values of later tokens are kept if tokens
    that come later still are to see them.
    """

    def __init__(self, keys: Tensor, values: Tensor, keeping: bool = False) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = self.shown = keys, values
        self.keeping = keeping
        self.own: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Prefix and later tokens together."""
        own = (key_states, value_states)
        if self.own is not None:
            own = (torch.cat([self.own[0], key_states], -2), torch.cat([self.own[1], value_states], -2))
        if self.keeping:
            self.own = own
        return _join(self.shown[0], own[0]), _join(self.shown[1], own[1])


def shown(kept: DynamicCache, keeping: bool = False) -> Cache:
    """A cache that shows a prefix to later tokens and leaves the prefix as it is; see `Shown`.

    Args:
        kept: keys and values of the prefix, one row or as many as the later tokens have.
        keeping: whether tokens of one pass are seen by those of the next.
    """
    # Blocks that a prompt without an image leaves out have none.
    layers = [
        Shown(layer.keys, layer.values, keeping) if layer.is_initialized else DynamicLayer()  # type: ignore[union-attr]
        for layer in kept.layers
    ]
    return Cache(layers=layers)  # type: ignore[arg-type]


def _join(one: Tensor, new: Tensor) -> Tensor:
    return torch.cat([one.expand(new.shape[0], *one.shape[1:]), new], dim=-2)


def positions_of(network: Network, batch: Batch) -> Int[Tensor, "..."]:
    """Position ids of a batch, counted over real tokens: ``batch pos``, or ``3 batch pos`` where they have parts."""
    real = batch.tokens.real
    if not network.family.mrope:
        counted = real.long().cumsum(1) - 1
        # OPT has a position of its own for padding, which no number above it stands for.
        own = network.family.pos_embed is not None and not network.family.positions
        return counted.where(real, -1) if own else counted.clamp(min=0)
    known = {n: t for n, t in batch.tensors.items() if n not in ("attention_mask", "pixel_values")}
    positions, _ = network.hf.model.get_rope_index(**known, attention_mask=real.long())
    return positions


def forgets(network: Network, length: int) -> bool:
    """Whether some layer attends to a window that is not longer than so many tokens."""
    window = getattr(network.hf.config.get_text_config(), "sliding_window", None)
    return window is not None and window <= length
