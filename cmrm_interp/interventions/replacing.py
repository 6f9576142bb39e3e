"""Interventions that replace activations: ablation, skipped blocks, and patching with captured ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Bool, Float, Int, Tensor
from cmrm_interp.errors import HookPointError, InputError, MismatchError
from cmrm_interp.hooks import expand, pos_axis
from cmrm_interp.interventions.base import Chosen, Intervention, as_tuple, at_layers, check_shape, freeze_layers
from cmrm_interp.positions import Position, check_position


@dataclass(frozen=True)
class Ablate(Intervention):
    """Replace activations by zero, by their mean over a reference set, or by another prompt's.

    Attributes:
        hooks: hook points or patterns.
        kind: ``"zero"``, ``"mean"`` or ``"resample"``.
        reference: activations for mean and resample, captured at these hook points.
        positions: tokens that are edited.
        seed: of the choice of reference rows (resample).
    """

    hooks: str | Iterable[str]
    kind: Literal["zero", "mean", "resample"] = "zero"
    reference: Activations | None = None
    positions: Position = "all"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse an unknown kind, and a reference that is missing."""
        check_position(self.positions)
        object.__setattr__(self, "hooks", as_tuple(self.hooks))
        if self.kind not in ("zero", "mean", "resample"):
            raise InputError(f"no ablation {self.kind!r}: use zero, mean or resample")
        if self.kind != "zero" and self.reference is None:
            raise InputError(f"{self.kind} ablation needs reference=: activations to take the values from")

    def targets(self, names: Sequence[str]) -> list[str]:
        """Hook points that the patterns mean; each must be in the reference."""
        found = expand(self.hooks, names)
        if self.reference is not None and self.kind != "zero":
            missing = [name for name in found if name not in self.reference.tensors]
            if missing:
                raise HookPointError(f"the reference has no activations at {missing[0]!r}: capture them there first")
        return found

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """Zeros, the reference mean, or reference rows drawn for each prompt and token."""
        if self.kind == "zero" or self.reference is None:
            return torch.zeros_like(x)
        pool = self.reference.selected(chosen.hook).to(x.device)
        check_shape(pool.shape[1:], x.shape[1:], chosen.hook)
        if self.kind == "mean":
            return pool.double().mean(0).to(x.dtype).expand_as(x)
        return pool[_draw(chosen, pool.shape[0], self.seed)].to(x.dtype)


@dataclass(frozen=True)
class Skip(Intervention):
    """Leave blocks out: the stream behind a block is what it was before it, as it is in this very run.

    Right whatever the block does (parallel branches, gates, a scale at its end), and whatever earlier edits did;
    edits of the same block's ``hook_resid_pre`` count if they stand before this one.

    Attributes:
        layers: blocks of the decoder; negative ones count from the last.
        positions: tokens for which they are left out.
    """

    layers: int | Iterable[int]
    positions: Position = "all"

    def __post_init__(self) -> None:
        """Keep the layers as they are now; refuse what is no position."""
        check_position(self.positions)
        freeze_layers(self)

    def targets(self, names: Sequence[str]) -> list[str]:
        """Where the stream is read, and where it is put back."""
        ends = ("blocks.*.hook_resid_pre", "blocks.*.hook_resid_post")
        return at_layers(expand(ends, names), self.layers, names)

    def reads(self, names: Sequence[str]) -> list[str]:
        """Where the stream is read."""
        return [name for name in self.targets(names) if name.endswith(".hook_resid_pre")]

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """``x`` before a block, which is remembered; what was remembered, behind it."""
        stem, _, end = chosen.hook.rpartition(".")
        key = (id(self), stem)
        if end == "hook_resid_pre":
            chosen.kept[key] = x
            return x
        return chosen.kept.pop(key)


@dataclass(frozen=True)
class Patch(Intervention):
    """Put captured activations in place of the model's own (activation patching).

    Attributes:
        activations: one row for each prompt of the run; their hook points are the ones that are patched.
        positions: tokens that are replaced; None for the position at which they were captured.
        layers: as in `Add`.
    """

    activations: Activations
    positions: Position | None = None  # type: ignore[assignment]
    layers: int | Iterable[int] | None = None

    def __post_init__(self) -> None:
        """Take the captured position where none is given."""
        if self.positions is None:
            object.__setattr__(self, "positions", self.activations.positions)
        check_position(self.positions)  # type: ignore[arg-type]
        freeze_layers(self)

    def targets(self, names: Sequence[str]) -> list[str]:
        """Hook points of the activations, at the chosen layers."""
        return at_layers(expand(list(self.activations), names), self.layers, names)

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """The captured value of the same prompt and, counted among the chosen tokens, the same place."""
        source, mask = self.activations[chosen.hook], self.activations.mask_of(chosen.hook)
        if int(chosen.rows.max()) >= source.shape[0]:
            raise MismatchError(
                f"Patch has {source.shape[0]} rows of activations, the run has row {int(chosen.rows.max())}"
            )
        if mask is None:
            values = source[chosen.rows.to(source.device)]
        else:
            values = _at_order(source.movedim(pos_axis(chosen.hook), 1), mask, chosen)
        check_shape(values.shape[1:], x.shape[1:], chosen.hook)
        return values.to(x)


def _at_order(source: Tensor, mask: Bool[Tensor, "batch pos"], chosen: Chosen) -> Tensor:
    mask = mask.to(chosen.rows.device)
    have, want = mask.sum(1), torch.bincount(chosen.rows, minlength=mask.shape[0])
    for row in chosen.rows.unique().tolist():
        if have[row] != want[row]:
            raise MismatchError(f"row {row}: {int(want[row])} tokens to patch, {int(have[row])} were captured")
    start = have.cumsum(0) - have
    return source.to(mask.device)[mask][start[chosen.rows] + chosen.order]


def _draw(chosen: Chosen, n: int, seed: int) -> Int[Tensor, " n"]:
    # A hash of row and place, so that the draw does not depend on how the rows are batched.
    mixed = (chosen.rows * 1_000_003 + chosen.order * 7_919 + seed * 104_729 + 12_345) & 0x7FFFFFFF
    mixed = (mixed ^ (mixed >> 13)) * 1_274_126_177 & 0x7FFFFFFF
    return (mixed ^ (mixed >> 16)) % n
