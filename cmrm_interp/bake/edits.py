"""Interventions as affine maps of what is written to the stream: the only kind that weights can hold."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.directions import basis
from cmrm_interp.errors import InputError
from cmrm_interp.interventions import Ablate, Add, Clamp, Gate, Hook, Intervention, Patch, ProjectOut, Subtract
from cmrm_interp.positions import as_selector


class Op(ABC):
    """One affine map of activations ``... d_model``, in double precision."""

    @abstractmethod
    def linear(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """The map less its constant; it is symmetric, so it is its own adjoint."""

    @property
    def constant(self) -> Tensor | None:
        """What zero becomes; None for zero itself."""
        return None

    def __call__(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """The map."""
        moved = self.linear(x)
        return moved if self.constant is None else moved + self.constant.to(x)


@dataclass(frozen=True, eq=False)
class Move(Op):
    """``x + vector``."""

    vector: Float[Tensor, " d_model"]

    @property
    def constant(self) -> Tensor:
        """The vector."""
        return self.vector

    def linear(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """The same."""
        return x


@dataclass(frozen=True, eq=False)
class Shrink(Op):
    """``x - alpha * V^T V x`` with the rows of V orthonormal."""

    rows: Float[Tensor, "k d_model"]
    alpha: float

    def linear(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """The same map."""
        rows = self.rows.to(x)
        return x - self.alpha * ((x @ rows.T) @ rows)


@dataclass(frozen=True, eq=False)
class Fix(Op):
    """``vector``, whatever x is."""

    vector: Float[Tensor, " d_model"]

    @property
    def constant(self) -> Tensor | None:
        """The vector."""
        return self.vector if bool(self.vector.any()) else None

    def linear(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """Zero."""
        return torch.zeros_like(x)


def chained(ops: Sequence[Op], x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
    """Several maps, one after the other."""
    for op in ops:
        x = op(x)
    return x


def linear_part(ops: Sequence[Op], x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
    """Several maps without their constants, one after the other."""
    for op in ops:
        x = op.linear(x)
    return x


def edits_of(interventions: Sequence[Intervention], names: Sequence[str]) -> dict[str, list[Op]]:
    """What interventions do at each hook point, in their order; what changes nothing is left out.

    Args:
        interventions: checked ones.
        names: hook points of the model, in forward order.

    Raises:
        InputError: one of them is no affine map that is the same at every token of every prompt.
    """
    found: dict[str, list[Op]] = {}
    for intervention in interventions:
        _need_constant(intervention)
        for name in intervention.targets(names):
            op = _op(intervention, name)
            if op is not None:
                found.setdefault(name, []).append(op)
    return {name: found[name] for name in names if name in found}


def _need_constant(intervention: Intervention) -> None:
    kind = type(intervention).__name__
    if not isinstance(intervention, Intervention):
        raise InputError(f"{kind} is no intervention: use Add(...), ProjectOut(...); of a recipe, its .interventions()")
    reason = next((why for cls, why in _REFUSED.items() if isinstance(intervention, cls)), None)
    if reason is None and type(intervention) not in (Add, Subtract, ProjectOut, Ablate):
        reason = "only Add, Subtract, ProjectOut and Ablate are known to be the same at every token"
    if reason is not None:
        raise InputError(f"{kind} cannot be baked into weights: {reason}")
    if as_selector(intervention.positions) != as_selector("all"):
        raise InputError(
            f"{kind} at positions={intervention.positions!r} cannot be baked into weights, which act on every token"
            " alike: bake it with positions='all' (dataclasses.replace(intervention, positions='all')), which is"
            " another intervention: measure it before you serve it"
        )
    if isinstance(intervention, Add) and not _is_one(intervention):
        raise InputError(
            f"{kind} with one vector a row cannot be baked into weights: they know no rows; bake the mean of the"
            " vectors, or one checkpoint for each"
        )
    if isinstance(intervention, Ablate) and intervention.kind == "resample":
        raise InputError(
            "Ablate by resampling cannot be baked into weights: it draws for each prompt; bake kind='mean'"
        )


def _is_one(intervention: Add) -> bool:
    rows, tensors = intervention.directions.rows, intervention.directions.tensors.values()
    return rows == "one" or (rows is None and all(tensor.ndim == 1 for tensor in tensors))


def _op(intervention: Intervention, name: str) -> Op | None:
    if isinstance(intervention, Ablate):
        return Fix(_mean(intervention, name))
    if isinstance(intervention, Add):
        sign = -1.0 if isinstance(intervention, Subtract) else 1.0
        vector = sign * intervention.alpha * _wide(intervention.directions[name])
        return Move(vector) if bool(vector.any()) else None
    assert isinstance(intervention, ProjectOut)
    # The basis that runs live, to the bit.
    rows = _wide(basis(intervention.directions[name], name))
    return Shrink(rows, intervention.alpha) if intervention.alpha else None


def _mean(intervention: Ablate, name: str) -> Tensor:
    if intervention.kind == "zero" or intervention.reference is None:
        # Zeros of any width: they are only ever added.
        return torch.zeros(1, dtype=torch.float64)
    return _wide(intervention.reference.selected(name)).mean(0)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)


_REFUSED: Mapping[type[Intervention], str] = {
    Gate: "it looks at each token, or at each prompt, before it acts; the intervention inside it, at positions='all',"
    " is what weights may hold",
    Hook: "it is any function, and weights hold only additions and projections: write it as Add or ProjectOut",
    Clamp: "it is no linear map of the activation; ProjectOut removes the component, and Add after it sets a constant",
    Patch: "its values belong to single prompts and tokens",
}
