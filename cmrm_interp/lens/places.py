"""Where a lens reads: layers of the stream, and tokens of the prompts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch

from cmrm_interp.axes import Int, Tensor
from cmrm_interp.encoding import Batch
from cmrm_interp.errors import HookPointError
from cmrm_interp.hooks import check_layers
from cmrm_interp.positions import Position, position_mask

EMBED = -1
"""Number of the stream before the first block, in tables."""
Layers = int | str | Iterable[int | str] | None


def layer_numbers(layers: Layers, n_layers: int) -> tuple[int, ...]:
    """Layers in ascending order: `EMBED` (asked for as ``"embed"``) for the stream before the first block.

    Args:
        layers: numbers of blocks, whose output is meant (negative ones count from the last), and ``"embed"``; one or
            several; None for all.
        n_layers: blocks of the model.

    Raises:
        HookPointError: a layer that there is not, or none.
    """
    if layers is None:
        return tuple(range(EMBED, n_layers))
    asked = [layers] if isinstance(layers, int | str) else list(layers)
    numbers = [layer for layer in asked if layer != "embed"]
    for layer in numbers:
        if isinstance(layer, str):
            raise HookPointError(f"no layer {layer!r}: use numbers 0-{n_layers - 1}, or 'embed' (before block 0)")
    blocks = check_layers(numbers, n_layers) if numbers or not asked else ()  # type: ignore[arg-type]
    return (*([EMBED] if "embed" in asked else []), *(blocks or ()))


def hook_of(layer: int) -> str:
    """Hook point of the stream at a layer."""
    return "blocks.0.hook_resid_pre" if layer == EMBED else f"blocks.{layer}.hook_resid_post"


@dataclass(frozen=True, eq=False)
class Places:
    """The ``n`` tokens that are read.

    Attributes:
        prompt: index of the prompt.
        position: number among the real tokens of the prompt, from 0.
        token: id.
        image: which image of the prompt it belongs to, -1 for text.
        patch: number among the tokens of that image, -1 for text.
    """

    prompt: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    token: Int[Tensor, " n"]
    image: Int[Tensor, " n"]
    patch: Int[Tensor, " n"]

    @classmethod
    def join(cls, parts: Sequence["Places"]) -> "Places":
        """Places of several batches."""
        return cls(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)})


def places_of(batch: Batch, positions: Position) -> tuple[Places, Int[Tensor, " n"], Int[Tensor, " n"]]:
    """The tokens of a batch that a position means, with their rows and columns in it."""
    tokens = batch.tokens
    rows, columns = position_mask(positions, tokens).nonzero(as_tuple=True)
    image = tokens.numbers if bool(tokens.image.any()) else torch.full(tokens.real.shape, -1)
    patch = torch.full_like(image, -1)
    for number in range(int(image.max()) + 1):
        mine = image == number
        patch[mine] = (mine.long().cumsum(1) - 1)[mine]
    position = tokens.real.long().cumsum(1) - 1
    kept = [table[rows, columns].cpu() for table in (position, tokens.ids, image, patch)]
    return Places(batch.rows[rows], *kept), rows, columns


def need_tokens(found: Tensor, positions: Position, n_prompts: int) -> None:
    """Refuse positions that mean no token of any prompt.

    Args:
        found: something of each token that was found.
        positions: that were asked for.
        n_prompts: in which they were looked for.

    Raises:
        HookPointError: there is none.
    """
    if not len(found):
        why = ": give them images (model.prepare(texts, images=...))" if positions == "image" else ""
        raise HookPointError(f"none of these {n_prompts} prompts has a token at positions={positions!r}{why}")
