"""States of several conditions at each hook point, checked: the same prompts, row by row, and something to compare."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Float
from cmrm_interp.errors import InputError, MismatchError

FEWEST = 8
"""Prompts that the metrics need: five folds, and resamples with at least four different prompts."""


@dataclass(frozen=True)
class States:
    """Activations by condition, as matrices.

    Attributes:
        acts: by condition; single positions, equal hook points and numbers of rows.
    """

    acts: Mapping[str, Activations]

    def __post_init__(self) -> None:
        """Refuse what cannot be compared.

        Raises:
            InputError: fewer than two conditions, or too few rows.
            MismatchError: conditions with different hook points, models, positions or numbers of rows.
        """
        if len(self.acts) < 2:
            raise InputError(f"a gap between {len(self.acts)} conditions ({', '.join(self.acts)}): give at least two")
        rows = {name: acts.n_rows for name, acts in self.acts.items()}
        if len(set(rows.values())) > 1:
            counts = ", ".join(f"{name}: {n}" for name, n in rows.items())
            raise MismatchError(f"conditions are compared prompt by prompt, but their rows differ ({counts})")
        if self.n < FEWEST:
            raise InputError(f"{self.n} prompts a condition are too few for intervals and tests: give {FEWEST} or more")
        first = next(iter(self.acts.values()))
        for name, acts in self.acts.items():
            _check_alike(name, acts, first)

    @property
    def n(self) -> int:
        """Number of prompts."""
        return next(iter(self.acts.values())).n_rows

    @property
    def hooks(self) -> list[str]:
        """Hook points, in forward order."""
        return list(next(iter(self.acts.values())))

    @property
    def model(self) -> str | None:
        """Fingerprint of the model that the states come from, where they have one."""
        return next((acts.model for acts in self.acts.values() if acts.model is not None), None)

    def __iter__(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Each hook point with its states by condition."""
        for hook in self.hooks:
            yield hook, self.at(hook)

    def at(self, hook: str) -> dict[str, Float[np.ndarray, "n d"]]:
        """States of one hook point by condition, in double precision; heads are laid side by side.

        Raises:
            InputError: NaN or infinite states, or a condition in which all prompts have one state.
            MismatchError: conditions of different widths.
        """
        found = {name: acts[hook].cpu().double().flatten(1).numpy() for name, acts in self.acts.items()}
        widths = {name: rows.shape[1] for name, rows in found.items()}
        if len(set(widths.values())) > 1:
            raise MismatchError(f"states at {hook!r} have different widths: {widths}; compare another hook point")
        for name, rows in found.items():
            _check_states(rows, f"condition {name!r} at {hook!r}")
        return found


def _check_alike(name: str, acts: Activations, first: Activations) -> None:
    if list(acts) != list(first):
        raise MismatchError(f"condition {name!r} has other hook points than the first: capture the same ones")
    if None not in (acts.model, first.model) and acts.model != first.model:
        raise MismatchError(f"condition {name!r} comes from another model ({acts.model} and {first.model})")
    if acts.mask is not None or acts.patch_masks:
        raise MismatchError(
            f"condition {name!r} has several positions a prompt: capture one that every prompt has, such as 'last'"
        )
    if acts.positions != first.positions:
        raise MismatchError(f"condition {name!r} was captured at {acts.positions!r}, the first at {first.positions!r}")


def _check_states(rows: np.ndarray, where: str) -> None:
    bad = ~np.isfinite(rows).all(1)
    if bad.any():
        raise InputError(
            f"{where}: {bad.sum()} of {len(rows)} rows have NaN or infinite entries (first: row {int(bad.argmax())})"
        )
    if np.ptp(rows, axis=0).max() <= 1e-9 * np.abs(rows).max():
        raise InputError(
            f"{where}: all {len(rows)} prompts have the same state, so there is no variance to measure a gap by:"
            " choose a later hook point or another position"
        )
