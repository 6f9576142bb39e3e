"""PatchFrom: captured activations of one run put into another whose tokens are at other places."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Bool, Float, Int, Tensor
from cmrm_interp.errors import MismatchError
from cmrm_interp.hooks import expand
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Chosen, Intervention
from cmrm_interp.interventions.base import check_shape
from cmrm_interp.patching.spans import Places
from cmrm_interp.positions import Position, Tokens


@dataclass(frozen=True, eq=False)
class Source:
    """Activations of the run that is patched from, at the tokens that are needed.

    Attributes:
        activations: by hook point, the needed tokens of each row in order.
        needed: for each row and each of its real tokens, whether it is among them.
    """

    activations: Activations
    needed: Bool[Tensor, "batch pos"]

    def columns(self, numbers: Int[Tensor, "batch n"]) -> Int[Tensor, "batch n"]:
        """Where tokens, by their number in the row, are among the needed ones; -1 for -1.

        Raises:
            MismatchError: a token that was not captured.
        """
        order = self.needed.long().cumsum(1) - 1
        known = torch.where(self.needed, order, -1).gather(1, numbers.clamp(min=0))
        if bool(((known < 0) & (numbers >= 0)).any()):
            raise MismatchError("a token that is to be patched was not captured: capture the source for these places")
        return torch.where(numbers >= 0, known, -1)


def capture_source(model: Any, inputs: Inputs, hooks: Sequence[str], places: Iterable[Places]) -> Source:
    """Activations of a run at every token that some places need.

    Args:
        model: runs them.
        inputs: the run that is patched from.
        hooks: hook points.
        places: which tokens are needed.
    """
    needed = _needed([place.numbers for place in places])
    return Source(model.capture(inputs, list(hooks), positions=_Needed(needed)), needed)


@dataclass(frozen=True, eq=False)
class PatchFrom(Intervention):
    """Put activations of another run in place of the model's own, token by token along an alignment.

    Chosen tokens without a counterpart stay as they are.

    Attributes:
        source: activations of the other run.
        places: the tokens that are patched, with their counterparts.
        hooks: hook points or patterns, among those of the source; None for all of them.
    """

    source: Source
    places: Places
    hooks: tuple[str, ...] | None = None

    @property
    def positions(self) -> Position:  # type: ignore[override]
        """Tokens that are patched."""
        return self.places.positions

    def targets(self, names: Sequence[str]) -> list[str]:
        """Hook points of the source, or those of them that were chosen."""
        own = [name for name in names if name in self.source.activations]
        return own if self.hooks is None else expand(self.hooks, own, whole=False)

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """The other run's values at the counterparts."""
        self._check(chosen)
        values, columns = self.source.activations[chosen.hook], self._columns
        check_shape(values.shape[2:], x.shape[1:], chosen.hook)
        rows, order = chosen.rows.to(columns.device), chosen.order.to(columns.device)
        column = columns[rows, order]
        found = values[rows, column.clamp(min=0)].to(x)
        have = (column >= 0).to(x.device).reshape(-1, *[1] * (x.ndim - 1))
        return torch.where(have, found, x)

    @cached_property
    def _columns(self) -> Int[Tensor, "batch n"]:
        return self.source.columns(self.places.numbers)

    def _check(self, chosen: Chosen) -> None:
        have, want = self.places.counts, torch.bincount(chosen.rows.cpu(), minlength=len(self.places.counts))
        wrong = ((want != 0) & (want != have)).nonzero().flatten() if len(want) == len(have) else [len(have)]
        if len(wrong):
            raise MismatchError(
                f"PatchFrom was made for {len(have)} other prompts: row {int(wrong[0])} has other tokens at"
                f" {self.positions!r} than the alignment; use it on the inputs that were aligned"
            )


@dataclass(frozen=True, eq=False)
class _Needed:
    """Position of a capture: chosen tokens of each row of the inputs."""

    needed: Bool[Tensor, "batch pos"]

    def __call__(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        own = self.needed[tokens.first : tokens.first + len(tokens.real)].to(tokens.real.device)
        found = torch.zeros_like(tokens.real)
        for row, real in enumerate(tokens.real):
            # `needed` ends with the last token that any row needs.
            columns = real.nonzero().flatten()[: own.shape[1]]
            found[row, columns] = own[row, : len(columns)]
        return found


def _needed(numbers: Sequence[Tensor]) -> Bool[Tensor, "batch pos"]:
    together = torch.cat(list(numbers), 1)
    found = torch.zeros(len(together), int(together.max()) + 2, dtype=torch.bool)
    # What has no counterpart is written into a column of its own, which is cut off.
    found.scatter_(1, torch.where(together >= 0, together, found.shape[1] - 1), True)
    return found[:, :-1]
