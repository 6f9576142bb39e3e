"""How a gap is measured: what with what, by which metrics, on how many draws."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from cmrm_interp.axes import Tensor
from cmrm_interp.directions import Directions, basis
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.gap.conditions import REFERENCE
from cmrm_interp.gap.metrics import Metric, chosen, overlaps
from cmrm_interp.gap.states import States
from cmrm_interp.running import BatchSize


@dataclass(frozen=True)
class Design:
    """Options of `gap`.

    Attributes:
        reference: the condition that all others are compared with.
        pairs: conditions to compare instead, as ``[(a, b), ...]``; shifts go from b to a.
        metrics: names of `METRICS`; None for all.
        permutations: draws of each null.
        resamples: draws of the bootstrap.
        seed: of both.
        batch_size: rows a batch while capturing.
    """

    reference: str = REFERENCE
    pairs: Sequence[tuple[str, str]] | None = None
    metrics: Iterable[str] | None = None
    permutations: int = 1000
    resamples: int = 1000
    seed: int = 0
    batch_size: BatchSize = "auto"

    def __post_init__(self) -> None:
        """Refuse too few draws, and metrics that there are not."""
        for name in ("permutations", "resamples"):
            if getattr(self, name) < 100:
                raise InputError(f"{name}={getattr(self, name)}: p values and intervals need at least 100 draws")
        object.__setattr__(self, "metrics", tuple(metric.name for metric in chosen(self.metrics)))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Design":
        """A design from keywords.

        Raises:
            InputError: a keyword that there is not.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise InputError(f"gap has no option {name!r}: there are directions, {', '.join(known)}")
        return cls(**options)

    def compared(self, states: States) -> list[tuple[str, str]]:
        """Pairs of conditions.

        Raises:
            InputError: a condition that there is not, or one compared with itself.
        """
        there = list(states.acts)
        if self.pairs is None and self.reference not in there:
            raise InputError(f"no condition {self.reference!r}: give reference=, one of {', '.join(there)}")
        pairs = [(name, self.reference) for name in there if name != self.reference]
        for pair in self.pairs or ():
            if isinstance(pair, str) or len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(there):
                raise InputError(f"pairs has {pair!r}: give two different ones of {', '.join(there)}")
        return pairs if self.pairs is None else [(a, b) for a, b in self.pairs]

    def at(self, hook: str, directions: Mapping[str, Directions], width: int) -> list[Metric]:
        """Metrics at a hook point, with overlaps where a direction is known there.

        Raises:
            MismatchError: a direction of another width.
        """
        found = chosen(self.metrics)
        for name, given in directions.items():
            if hook not in given:
                continue
            if given[hook].shape[-1] != width:
                raise MismatchError(f"{name!r} has width {given[hook].shape[-1]} at {hook!r}, the states have {width}")
            found += overlaps(name, _basis(given[hook].double(), hook))
        return found


def named(directions: Directions | Mapping[str, Directions] | None, states: States) -> Mapping[str, Directions]:
    """Directions by name, checked against the states.

    Raises:
        MismatchError: directions of another model, one vector a prompt, or at none of the hook points.
    """
    if directions is None:
        return {}
    found = {"the direction": directions} if isinstance(directions, Directions) else directions
    for name, given in found.items():
        if None not in (given.model, states.model) and given.model != states.model:
            raise MismatchError(f"{name!r} was made on another model ({given.model}) than the states ({states.model})")
        if given.rows == "batch":
            raise MismatchError(f"{name!r} has one vector a prompt: give one vector or a subspace a hook point")
        if not any(hook in given for hook in states.hooks):
            raise MismatchError(f"{name!r} has no vector at these hook points ({', '.join(states.hooks[:3])} ...)")
    return found


def _basis(tensor: Tensor, hook: str) -> np.ndarray:
    """Orthonormal rows; those of one vector keep its sign, which a basis from singular vectors has not."""
    rows = basis(tensor, hook).numpy()
    return rows if len(rows) > 1 else rows * np.sign(rows @ tensor.reshape(-1, tensor.shape[-1])[0].numpy())[:, None]
