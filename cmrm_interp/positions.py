"""Token positions: which tokens of a batch ``"last"``, ``"image"``, ``3`` or ``slice(1, 4)`` mean.

Positions are about tokens, not about columns of a padded tensor: numbers count real tokens, whatever
the padding side. During generation a position also has to say what it means for new tokens:

=============================== ==================================== =================
position                        in the prompt                        each new token
=============================== ==================================== =================
``"last"``                      the last real token                  yes
``"all"``                       every real token                     yes
``"prompt"``                    every real token                     no
``"image"``, ``"text"``         image tokens; every other real token no
``"generated"``                 none                                 yes
an ``int`` or a ``slice``       counted over real tokens             no
=============================== ==================================== =================

So ``positions=-1`` edits the last prompt token alone, and ``positions="last"`` goes on with each new one.
"""

from dataclasses import dataclass

import torch

from cmrm_interp.axes import Bool, Int, Tensor
from cmrm_interp.errors import HookPointError

Position = str | int | slice
NAMED = ("last", "all", "prompt", "image", "text", "generated")


@dataclass(frozen=True)
class Tokens:
    """What is known of the tokens in one forward pass.

    Attributes:
        real: True where a token is not padding.
        image: True where a token stands for a piece of an image.
        generated: whether these are new tokens of a generation (one a row) and not the prompt.
    """

    real: Bool[Tensor, "batch pos"]
    image: Bool[Tensor, "batch pos"]
    generated: bool = False

    def new_token(self) -> "Tokens":
        """Tokens of a generation step after the prompt: one real token a row."""
        real = torch.ones_like(self.real[:, :1])
        return Tokens(real, ~real, generated=True)


def check_position(position: Position) -> None:
    """Refuse what is not a position.

    Raises:
        HookPointError: an unknown name, a step slice, or another type.
    """
    if isinstance(position, str) and position not in NAMED:
        raise HookPointError(f"no position {position!r}: use one of {', '.join(NAMED)}, an int or a slice")
    if isinstance(position, bool) or not isinstance(position, str | int | slice):
        raise HookPointError(f"a position is a name, an int or a slice, not {type(position).__name__}")
    if isinstance(position, slice) and position.step not in (None, 1):
        raise HookPointError(f"a slice of positions has no step: {position}")


def position_mask(position: Position, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
    """Mask of the tokens that a position means.

    Args:
        position: a name, an int or a slice (see the module's table).
        tokens: the tokens of the pass.

    Returns:
        True at the chosen tokens.

    Raises:
        HookPointError: not a position, or a row has no such token.
    """
    check_position(position)
    if tokens.generated:
        return tokens.real & (position in ("last", "all", "generated"))
    if isinstance(position, str):
        return _named(position, tokens)
    order = tokens.real.cumsum(1) - 1
    length = tokens.real.sum(1, keepdim=True)
    if isinstance(position, int):
        _check_range(position, length)
        return tokens.real & (order == (position if position >= 0 else length + position))
    start = _bound(position.start, length, torch.zeros_like(length))
    stop = _bound(position.stop, length, length)
    return tokens.real & (order >= start) & (order < stop)


def last_index(real: Bool[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
    """Column of the last real token of each row."""
    columns = torch.arange(real.shape[1], device=real.device)
    return torch.where(real, columns, -1).amax(1)


def _named(position: str, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
    if position == "last":
        columns = torch.arange(tokens.real.shape[1], device=tokens.real.device)
        return columns == last_index(tokens.real)[:, None]
    if position == "image":
        return tokens.image & tokens.real
    if position == "text":
        return tokens.real & ~tokens.image
    return tokens.real if position in ("all", "prompt") else torch.zeros_like(tokens.real)


def _check_range(position: int, length: Int[Tensor, "batch 1"]) -> None:
    shortest = int(length.min())
    if not -shortest <= position < shortest:
        row = int(length.argmin())
        raise HookPointError(f"no position {position}: row {row} has {shortest} tokens (0-{shortest - 1})")


def _bound(
    value: int | None, length: Int[Tensor, "batch 1"], default: Int[Tensor, "batch 1"]
) -> Int[Tensor, "batch 1"]:
    if value is None:
        return default
    return torch.full_like(length, value) if value >= 0 else length + value
