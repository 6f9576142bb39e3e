"""The null space of activations, and linear maps that are fitted inside of it.

A map that is zero on the span of some activations leaves them as they are, and is free everywhere else (AlphaSteer,
arXiv 2506.07022). Sums and decompositions are in fp64; pure maths, no model.
"""

import math
from collections.abc import Iterable

import torch

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import InputError, MismatchError


def second_moments(acts: Activations | Iterable[Activations]) -> dict[str, Tensor]:
    """Uncentred second moment ``H^T H / n`` of activations at every hook point, in fp64.

    Args:
        acts: activations, or batches of them as `Model.stream` gives them (then memory does not grow with the data);
            rows and positions are run together, padding left out.

    Returns:
        ``d_model d_model`` a hook point.

    Raises:
        InputError: there are no activations.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for batch in [acts] if isinstance(acts, Activations) else acts:
        for name in batch:
            rows = batch.selected(name).double()
            sums[name] = sums.get(name, 0) + rows.T @ rows
            counts[name] = counts.get(name, 0) + rows.shape[0]
    if not sums or not all(counts.values()):
        raise InputError("no activations, so no second moment: capture some prompts")
    return {name: total / counts[name] for name, total in sums.items()}


def null_space_basis(
    moment: Float[Tensor, "d d"], tolerance: float = 1e-6, size: int | None = None
) -> Float[Tensor, "k d"]:
    """Orthonormal basis of the directions in which activations have next to nothing.

    Args:
        moment: uncentred second moment of the activations (`second_moments`).
        tolerance: directions are in the null space whose eigenvalue is below this share of the largest one.
        size: the number of directions instead, those with the smallest eigenvalues. AlphaSteer's released code takes
            0.3 to 0.6 of all.

    Returns:
        ``k d_model``, orthonormal rows, in fp64; the projector is ``basis.T @ basis``.

    Raises:
        InputError: the null space is empty, or it is the whole space.
    """
    if not torch.isfinite(moment).all():
        raise InputError("the activations are not finite (NaN or infinite): load the model in bf16 or fp32")
    values, vectors = torch.linalg.eigh(moment.double())
    d = values.numel()
    if not values[-1] > 0:
        raise InputError("the activations are all zero, so everything is in their null space")
    below = int((values < tolerance * values[-1]).sum())
    k = below if size is None else size
    if k < 1:
        least = float(values[0] / values[-1])
        raise InputError(
            f"the null space is empty: no eigenvalue is below {tolerance:g} of the largest (the least is {least:.1e} of"
            f" it): allow a larger tolerance, or give size=, the number of directions (of {d})"
            if size is None
            else f"a null space of {size} directions: give size= from 1 to {d - 1}"
        )
    if k >= d:
        raise InputError(
            f"the null space has {k} of {d} dimensions, and so everything is in it: give a smaller tolerance, or size="
            f" from 1 to {d - 1}"
        )
    return vectors[:, :k].T.contiguous()


def ridge_map(
    x: Float[Tensor, "n d"],
    target: Float[Tensor, "n d_out"] | Float[Tensor, " d_out"],
    ridge: float,
    basis: Float[Tensor, "k d"] | None = None,
) -> Float[Tensor, "d_out d"]:
    """The linear map that takes activations to targets and is zero outside of a subspace, by ridge regression.

    With the rows of `basis` orthonormal and ``P`` the projector on their span, the map is ``M = D P`` with
    ``D = argmin sum_i ||D P x_i - r_i||^2 + ridge ||D P||_F^2`` (AlphaSteer, arXiv 2506.07022, the regularised
    least-squares objective). In the coordinates of the subspace, ``z = basis x``, that is the ordinary normal equation
    ``M = R^T Z (Z^T Z + ridge I)^-1 basis``, which has no pseudo-inverse in it.

    Args:
        x: activations, one a row.
        target: what the map gives for each row, or one vector for all of them.
        ridge: weight of the map's own size, in units of squared activations summed over rows; 0 for none.
        basis: orthonormal rows; None for the whole space.

    Returns:
        ``M`` with ``M x_i`` near ``r_i``, in fp64.

    Raises:
        MismatchError: widths or numbers of rows that do not fit.
        InputError: no activations, or some that are not finite; a ridge
            that is negative, or 0 where the equation has no single solution.
    """
    if not (math.isfinite(ridge) and ridge >= 0):
        raise InputError(f"ridge is {ridge}: give 0 or a positive number")
    x = x.double()
    if not len(x) or not (torch.isfinite(x).all() and torch.isfinite(target).all()):
        raise InputError(f"{len(x)} activations and their targets: a map is fitted on some, all of them finite")
    rows = torch.eye(x.shape[1], dtype=torch.float64) if basis is None else basis.double()
    if rows.shape[1] != x.shape[1] or (target.ndim == 2 and target.shape[0] != x.shape[0]):
        raise MismatchError(
            f"activations {tuple(x.shape)}, targets {tuple(target.shape)} and a basis {tuple(rows.shape)} do not fit"
        )
    z = x @ rows.T
    wanted = target.double().expand(x.shape[0], target.shape[-1])
    gram = z.T @ z + ridge * torch.eye(z.shape[1], dtype=torch.float64)
    factor, info = torch.linalg.cholesky_ex(gram)
    diagonal = factor.diagonal().abs()
    # A factor may come out of rounding alone where the exact one does not exist.
    rounding = (10 * len(gram) * torch.finfo(torch.float64).eps) ** 0.5
    if int(info) or diagonal.min() <= diagonal.max() * rounding:
        raise InputError(
            f"the {x.shape[0]} activations do not span the {rows.shape[0]} dimensions of the map, so that its equation"
            f" is singular: add ridge > {ridge:g}, or give more activations"
        )
    return torch.cholesky_solve(z.T @ wanted, factor).T @ rows
