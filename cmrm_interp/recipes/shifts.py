"""How long a shift may be: safeguards for shifts of single inputs, which may push states off their distribution."""

from collections.abc import Mapping

import torch

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Float, Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError
from cmrm_interp.estimators import difference


def first_sigma(a: Activations, b: Activations) -> dict[str, Float[Tensor, ""]]:
    """Root mean square component of the row-by-row differences along their first principal direction.

    That is ``sigma_1 / sqrt(n)``, with sigma_1 the largest singular value of the ``n`` differences, uncentred: what
    is common to all rows is the shift itself and counts.

    Args:
        a: activations at a single position.
        b: activations of the same hook points; row i is the pair of row i of `a`.

    Returns:
        A length a hook point, in the activations' units.
    """
    rows = difference(a, b)
    return {hook: (torch.linalg.matrix_norm(d.double(), 2) / d.shape[0] ** 0.5).float() for hook, d in rows.items()}


def capped(
    shift: Directions,
    norm_cap: float | None = None,
    layer_cap: float | None = None,
    sigma: Mapping[str, Tensor] | None = None,
) -> Directions:
    """The same shift, with every vector that is too long cut to the longest length allowed; both caps hold.

    Args:
        shift: one vector a hook point, or one a row.
        norm_cap: longest length at any hook point, in the activations' units.
        layer_cap: longest length at a hook point, in its `sigma`.
        sigma: of each hook point, as `first_sigma` finds it.

    Raises:
        InputError: `layer_cap` without `sigma`.
    """
    if layer_cap is not None:
        if sigma is None:
            raise InputError("layer_cap= is in units of the spread of anchors, which this recipe was fitted without")
        shift = shift.map(lambda v, hook: _cut(v, layer_cap * sigma[hook]))
    return shift if norm_cap is None else shift.map(lambda v, _: _cut(v, torch.tensor(norm_cap)))


def _cut(vectors: Float[Tensor, "*rows d"], longest: Float[Tensor, ""]) -> Float[Tensor, "*rows d"]:
    norms = vectors.norm(dim=-1, keepdim=True)
    # A zero vector divides to infinity, and stays as it is.
    return vectors * (longest.to(vectors) / norms).clamp(max=1)
