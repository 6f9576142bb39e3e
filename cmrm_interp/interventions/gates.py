"""Gate: an intervention that acts only where a condition on the activation holds; and some conditions."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Bool, Float, Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.interventions.base import Around, Chosen, Intervention

Condition = Callable[..., Tensor]


@dataclass(frozen=True)
class Gate(Around):
    """Apply an intervention only at the tokens where a condition holds.

    Attributes:
        condition: function ``(x)`` or ``(x, chosen)`` of the activations ``n d_model`` at the intervention's own
            hook points and positions, to ``n`` booleans, or to ``n`` weights from 0 to 1 that blend the edit in.
        intervention: what is applied.
    """

    condition: Condition
    intervention: Intervention

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """The edit where the condition holds, ``x`` where it does not, a blend for weights in between."""
        weight = _weigh(self.condition, x, chosen)
        if weight.shape != x.shape[:1]:
            raise InputError(f"a gate's condition returns one value a token: {x.shape[0]}, not {tuple(weight.shape)}")
        weight = weight.to(x.device).reshape(-1, *[1] * (x.ndim - 1))
        edited = self.intervention.edit(x, chosen)
        if weight.dtype == torch.bool:
            return torch.where(weight, edited, x.to(edited.dtype))
        return x + weight.to(edited.dtype) * (edited - x)


@dataclass(frozen=True)
class CosineAbove:
    """Condition: the cosine with a direction is above a threshold (as in CAST, arXiv 2409.05907).

    Attributes:
        directions: one vector at each hook point of the gated intervention.
        threshold: from -1 to 1.
    """

    directions: Directions
    threshold: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a threshold that is no number."""
        _check_threshold(self.threshold)

    def __call__(self, x: Float[Tensor, "n d_model"], chosen: Chosen) -> Bool[Tensor, " n"]:
        """Whether ``cos(x, v) > threshold``."""
        vector = self.directions[chosen.hook].to(x.device).float()
        return torch.nn.functional.cosine_similarity(x.float(), vector, dim=-1) > self.threshold


@dataclass(frozen=True)
class DotAbove:
    """Condition: the dot product with a direction, plus a bias, is above a threshold (InferAligner, 2401.11206).

    Attributes:
        directions: one vector at each hook point of the gated intervention.
        threshold: in units of the activation times the vector.
    """

    directions: Directions
    threshold: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a threshold that is no number."""
        _check_threshold(self.threshold)

    def __call__(self, x: Float[Tensor, "n d_model"], chosen: Chosen) -> Bool[Tensor, " n"]:
        """Whether ``x . v > threshold``."""
        return x.float() @ self.directions[chosen.hook].to(x.device).float() > self.threshold


@dataclass(frozen=True, eq=False)
class ByRow:
    """Condition: what was decided for each prompt before, whatever the activation is.

    For methods that decide once, at another place than they act at (CAST, arXiv 2409.05907).

    Attributes:
        weights: one a row of the inputs: booleans, or numbers from 0 to 1 that blend the edit in.
    """

    weights: Bool[Tensor, " batch"] | Float[Tensor, " batch"]

    def __call__(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Tensor:
        """The weight of each token's prompt."""
        last = int(chosen.rows.max())
        if last >= self.weights.shape[0]:
            raise MismatchError(f"weights for {self.weights.shape[0]} rows, but the run has row {last}")
        return self.weights[chosen.rows.to(self.weights.device)]


@dataclass(frozen=True)
class HasImage:
    """Condition: the prompt has an image; text-only rows of a mixed batch stay as they are."""

    def __call__(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Bool[Tensor, " n"]:
        """Whether each token's prompt has an image."""
        return chosen.has_image


def _weigh(condition: Condition, x: Tensor, chosen: Chosen) -> Tensor:
    # Most people write a condition on the activation alone.
    alone = len(inspect.signature(condition).parameters) == 1
    found: Any = condition(x) if alone else condition(x, chosen)
    if not isinstance(found, Tensor):
        raise InputError(
            f"a gate's condition returns a tensor with one value a token (here {x.shape[0]}), not {found!r}: to switch"
            " an edit on for all tokens or for none, leave out the gate or the edit"
        )
    return found


def _check_threshold(threshold: float) -> None:
    if not math.isfinite(threshold):
        raise InputError(f"the threshold is {threshold}: give a finite number")
