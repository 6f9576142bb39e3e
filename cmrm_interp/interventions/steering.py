"""Interventions along directions: add, subtract, project out, clamp."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.directions import Directions, basis
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.hooks import expand
from cmrm_interp.interventions.base import Chosen, Intervention, at_layers, check_shape, freeze_layers
from cmrm_interp.positions import Position, check_position


@dataclass(frozen=True)
class Add(Intervention):
    """Add ``alpha`` times a direction.

    Attributes:
        directions: one vector a hook point, or one a row of the inputs, or one a chosen token (``rows="tokens"``).
        alpha: strength; 0 changes nothing.
        positions: tokens that are edited; ``"last"`` goes on with each generated token, -1 does not.
        layers: layers at which it acts (negative ones count from the last); None for all that the directions have.
    """

    directions: Directions
    alpha: float = 1.0
    positions: Position = "last"
    layers: int | Iterable[int] | None = None

    def __post_init__(self) -> None:
        """Refuse strengths, positions and layers that mean nothing."""
        _check_alpha(self.alpha)
        check_position(self.positions)
        freeze_layers(self)

    def targets(self, names: Sequence[str]) -> list[str]:
        """Hook points of the directions, at the chosen layers."""
        return _direction_targets(self.directions, self.layers, names)

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """``x + alpha * v``."""
        vector = _vectors(self.directions, x, chosen)
        return x.to(vector.dtype) + self.alpha * vector


@dataclass(frozen=True)
class Subtract(Add):
    """Subtract ``alpha`` times a direction (CMRM, arXiv 2410.09047: the shift that the image caused); see `Add`."""

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """``x - alpha * v``."""
        vector = _vectors(self.directions, x, chosen)
        return x.to(vector.dtype) - self.alpha * vector


@dataclass(frozen=True)
class ProjectOut(Intervention):
    """Remove ``alpha`` times the component along a direction or in a subspace (directional ablation).

    Attributes:
        directions: ``d_model`` or ``k d_model`` a hook point.
        alpha: 1 removes all of the component.
        positions: tokens that are edited.
        layers: as in `Add`.
    """

    directions: Directions
    alpha: float = 1.0
    positions: Position = "all"
    layers: int | Iterable[int] | None = None

    def __post_init__(self) -> None:
        """Refuse strengths, positions and layers that mean nothing."""
        _check_alpha(self.alpha)
        check_position(self.positions)
        freeze_layers(self)
        if self.directions.rows in ("batch", "tokens"):
            raise InputError("ProjectOut takes one vector or a subspace a hook point, not one vector a row or token")

    def targets(self, names: Sequence[str]) -> list[str]:
        """Hook points of the directions, at the chosen layers."""
        return _direction_targets(self.directions, self.layers, names)

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """``x - alpha * V^T V x`` with the rows of V orthonormal."""
        rows = _basis(self.directions, x, chosen)
        wide = x.to(rows.dtype)
        return wide - self.alpha * ((wide @ rows.T) @ rows)


@dataclass(frozen=True)
class Clamp(Intervention):
    """Keep the coefficient along a unit direction between two bounds; equal bounds set it.

    Attributes:
        directions: one vector a hook point; its length does not matter.
        low, high: bounds of the coefficient, in the activation's own units; None for no bound.
        positions: tokens that are edited.
        layers: as in `Add`.
    """

    directions: Directions
    low: float | None = None
    high: float | None = None
    positions: Position = "all"
    layers: int | Iterable[int] | None = None

    def __post_init__(self) -> None:
        """Refuse bounds that mean nothing."""
        check_position(self.positions)
        freeze_layers(self)
        for bound in (self.low, self.high):
            if bound is not None and math.isnan(bound):
                raise InputError("a bound of Clamp is nan: give a number or None")
        if self.low is None and self.high is None:
            raise InputError("Clamp without low and high changes nothing: give at least one")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InputError(f"Clamp from {self.low} to {self.high}: low is above high")
        if self.directions.rows != "one":
            raise InputError("Clamp takes one vector a hook point")

    def targets(self, names: Sequence[str]) -> list[str]:
        """Hook points of the directions, at the chosen layers."""
        return _direction_targets(self.directions, self.layers, names)

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """``x + (clamp(c) - c) u`` with ``c = x . u``."""
        unit = _basis(self.directions, x, chosen)
        wide = x.to(unit.dtype)
        # The basis of a single vector may point the other way; the bounds are about the vector itself.
        unit = unit * torch.sign(self.directions[chosen.hook].to(unit) @ unit[0])
        c = wide @ unit.T
        return wide + (c.clamp(self.low, self.high) - c) @ unit


def _vectors(directions: Directions, x: Tensor, chosen: Chosen) -> Tensor:
    def _find() -> Tensor:
        vector = directions[chosen.hook]
        one = directions.rows == "one" or (directions.rows is None and vector.ndim == 1)
        if not one:
            index = _of_tokens(vector, chosen) if directions.rows == "tokens" else _of_rows(vector, chosen)
            # Of many prompts, only those of this batch are moved to the device.
            vector = vector[index.to(vector.device)]
        check_shape(vector.shape if one else vector.shape[1:], x.shape[1:], chosen.hook)
        return vector.to(x.device, torch.promote_types(vector.dtype, x.dtype))

    return chosen.once(("vectors", id(directions), chosen.hook, x.device, x.dtype), _find)


def _of_rows(vector: Tensor, chosen: Chosen) -> Int[Tensor, " n"]:
    last = int(chosen.rows.max())
    if last >= vector.shape[0]:
        raise MismatchError(f"directions for {vector.shape[0]} rows, but the run has row {last}")
    return chosen.rows


def _of_tokens(vector: Tensor, chosen: Chosen) -> Int[Tensor, " n"]:
    firsts, most = int((chosen.order == 0).sum()), int(chosen.order.max()) + 1
    if most > vector.shape[0] or chosen.order.numel() != firsts * vector.shape[0]:
        raise MismatchError(
            f"directions for {vector.shape[0]} tokens, but at {chosen.hook!r} a row of the run has"
            f" {most if most != vector.shape[0] else 'fewer'}: images of another size, or other positions"
        )
    return chosen.order


def _basis(directions: Directions, x: Tensor, chosen: Chosen) -> Tensor:
    def _find() -> Tensor:
        tensor = directions[chosen.hook]
        check_shape(tensor.shape[-1:], x.shape[-1:], chosen.hook)
        rows = basis(tensor, chosen.hook)
        return rows.to(x.device, torch.promote_types(rows.dtype, x.dtype))

    return chosen.once(("basis", id(directions), chosen.hook, x.device, x.dtype), _find)


def _check_alpha(alpha: float) -> None:
    if not math.isfinite(alpha):
        raise InputError(f"alpha is {alpha}: give a finite number")


def _direction_targets(directions: Directions, layers: int | Iterable[int] | None, names: Sequence[str]) -> list[str]:
    return at_layers(expand(list(directions), names), layers, names)
