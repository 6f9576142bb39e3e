"""The last tokens of a prompt, run once for each variant, as one sequence behind the prompt that they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from cmrm_interp.axes import Bool, Float, Int, Tensor
from cmrm_interp.hooks import pos_axis


@dataclass(frozen=True, eq=False)
class Tails:
    """Tokens that variants run for themselves: each sees the prompt before its variant's, and its variant's own.

    Attributes:
        starts: for each variant the first column of the prompt that is its own.
        real: True where a token of the prompt is not padding.
        owner: variant of each own token, those of earlier passes first.
        column: place of each, counted as in the prompt; the first new token comes behind its last column.
        first: number of own tokens that earlier passes have run.
    """

    starts: tuple[int, ...]
    real: Bool[Tensor, "batch pos"]
    owner: Int[Tensor, " key"]
    column: Int[Tensor, " key"]
    first: int = 0

    @classmethod
    def of(cls, starts: Sequence[int], real: Bool[Tensor, "batch pos"]) -> "Tails":
        """The prompt's columns from each start on."""
        width = real.shape[1]
        columns = [torch.arange(start, width) for start in starts]
        owner = torch.repeat_interleave(torch.arange(len(starts)), torch.tensor([len(c) for c in columns]))
        return cls(tuple(starts), real, owner, torch.cat(columns))

    def next(self, going: Sequence[int]) -> "Tails":
        """The pass after this one: a new token of each of some variants."""
        owner = torch.tensor(going)
        column = torch.stack([self.column[self.owner == k].max() + 1 for k in going])
        return Tails(
            self.starts,
            self.real,
            torch.cat([self.owner, owner]),
            torch.cat([self.column, column]),
            first=self.owner.numel(),
        )

    @property
    def columns(self) -> Int[Tensor, " query"]:
        """Columns of this pass's tokens."""
        return self.column[self.first :]

    @cached_property
    def places(self) -> dict[int, slice]:
        """Where each variant's tokens are among those of this pass."""
        owner = self.owner[self.first :]
        variants, counts = torch.unique_consecutive(owner, return_counts=True)
        ends = counts.cumsum(0).tolist()
        return {k: slice(end - n, end) for k, end, n in zip(variants.tolist(), ends, counts.tolist(), strict=True)}

    @cached_property
    def last(self) -> Int[Tensor, " variant"]:
        """The last token of each variant among those of this pass."""
        return torch.tensor([place.stop - 1 for place in self.places.values()])

    def keys(self, variant: int) -> Int[Tensor, " key"]:
        """Keys that a variant run alone would have, in its order: those before its start, then its own."""
        own = (self.owner == variant).nonzero().flatten() + self.real.shape[1]
        return torch.cat([torch.arange(self.starts[variant]), own])

    def mask(self, dtype: torch.dtype, window: int | None = None) -> Float[Tensor, "batch one query key"]:
        """What is added to scores: 0 where a token sees a key, the lowest number where it does not.

        Args:
            dtype: of the model.
            window: how far back a token sees, itself included; None for no end.
        """
        width = self.real.shape[1]
        owner, column = self.owner[self.first :, None], self.columns[:, None]
        before = torch.arange(width) < torch.tensor(self.starts)[owner]
        own = (owner == self.owner) & (self.column <= column)
        real = torch.cat([self.real, torch.ones_like(self.real[:, :1])], 1)[:, self.column.clamp(max=width)]
        # Padding sees itself, as a row of scores that are all masked would give nan.
        itself = torch.arange(self.first, self.owner.numel())[:, None] == torch.arange(self.owner.numel())
        seen = torch.cat([before & self.real[:, None], own & (real[:, None] | itself)], -1)
        if window is not None:
            seen &= torch.cat([torch.arange(width), self.column]) > column - window
        return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)[:, None]

    def part(self, activation: Tensor, hook: str, variant: int) -> Tensor:
        """A variant's own part of an activation, in the shape that it has in a run of its own."""
        if hook.startswith("unembed."):
            # One row of logits a variant, or all of them.
            n = list(self.places).index(variant)
            one = activation.shape[1] == len(self.places)
            return activation[:, n : n + 1] if one else activation[:, self.places[variant]]
        if pos_axis(hook) == 1:
            return activation[:, self.places[variant]]
        queries = activation[:, :, self.places[variant]]
        return queries if _crosses(hook) else queries[..., self.keys(variant)]

    def put(self, activation: Tensor, hook: str, variant: int, new: Tensor) -> None:
        """Write a variant's part back."""
        if pos_axis(hook) == 1 or _crosses(hook):
            self.part(activation, hook, variant)[:] = new
        else:
            activation[:, :, self.places[variant]][..., self.keys(variant)] = new


def _crosses(hook: str) -> bool:
    # The keys of a cross-attention are pieces of images, which all variants have in common.
    return ".cross_attn." in hook
