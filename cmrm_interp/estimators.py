"""How directions are found in activations, and projections on them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Float, Tensor
from cmrm_interp.directions import Directions, basis
from cmrm_interp.errors import InputError, MismatchError

Scale = Literal["unit", "projection_mean", "projection_std"]
T = TypeVar("T", Tensor, Activations)


def mean_diff(a: Activations | Iterable[Activations], b: Activations | Iterable[Activations]) -> Directions:
    """Mean of `a` less mean of `b`, at every hook point, accumulated in fp64.

    Args:
        a: activations, or batches of them as `Model.stream` gives them (then memory does not grow with the
            data); the mean runs over rows and positions, padding left out.
        b: activations of the same hook points.

    Returns:
        One vector a hook point. CMRM's dataset-level shift (arXiv 2410.09047, Eq. 4) is
        ``mean_diff(with_meaningless_image, text_only)``.

    Raises:
        MismatchError: different hook points, widths or models.
        InputError: one of them has no activations.
    """
    first, second = _Means.of(a), _Means.of(b)
    first.check(second)
    tensors = {name: (first.mean(name) - second.mean(name)).float() for name in first.sums}
    return Directions(tensors, rows="one", model=first.model, method="mean difference")


def difference(a: Activations, b: Activations) -> Directions:
    """Difference of the activations, row by row: one vector a prompt (CMRM's sample level, Eq. 5).

    Raises:
        MismatchError: different hook points or numbers of rows, or several positions a row.
    """
    _check_pair(a, b)
    _check_rows(a, b)
    tensors = {name: (a[name].double() - b[name].double()).float() for name in a}
    return Directions(tensors, rows="batch", model=a.model, method="difference of each row")


def principal_direction(
    a: Activations, b: Activations, k: int = 1, center: bool = False, scale: Scale = "projection_mean"
) -> Directions:
    """First principal directions of the row-by-row differences, oriented along their mean.

    Args:
        a: activations at a single position.
        b: activations of the same hook points; row i is the pair of row i of `a`.
        k: number of directions; more than one gives an orthonormal subspace.
        center: subtract the mean difference first. The default keeps it: what is common to all rows *is* the
            shift, and centred components show only how it varies.
        scale: length of the vector for ``k = 1``: one; the mean projection of the differences on it; or the
            standard deviation of that projection.

    Returns:
        ``d_model`` a hook point for ``k = 1``, else ``k d_model``.

    Raises:
        MismatchError: rows that are not paired.
        InputError: more directions than rows or dimensions.
    """
    _check_pair(a, b)
    _check_rows(a, b)
    if not 1 <= k <= min(a.n_rows, *(a[name].shape[-1] for name in a)):
        raise InputError(f"k = {k} directions from {a.n_rows} rows: k goes from 1 to the number of rows or dimensions")
    tensors = {name: _principal(a[name].double() - b[name].double(), k, center, scale).float() for name in a}
    method = f"principal direction ({'centred' if center else 'uncentred'}, k={k}, {scale})"
    return Directions(tensors, rows="one" if k == 1 else "subspace", model=a.model, method=method)


def project(x: T, directions: Directions | Tensor) -> T:
    """Component of activations along a direction or in a subspace.

    Args:
        x: a tensor ``... d_model``, or Activations.
        directions: a tensor ``d_model`` or ``k d_model``, or Directions that have every hook point of `x`.

    Returns:
        Like `x`.

    Raises:
        MismatchError: another width, or a hook point without a direction.
        InputError: a direction is zero.
    """
    if isinstance(x, Activations):
        return x.map(lambda tensor, name: _project(tensor, _direction(directions, name), name))
    return _project(x, _direction(directions, None), "")


def reject(x: T, directions: Directions | Tensor) -> T:
    """What is left of activations without their component along a direction (see `project`)."""
    if isinstance(x, Activations):
        along = project(x, directions)
        return x.map(lambda tensor, name: tensor - along[name])
    return x - project(x, directions)


def _principal(d: Float[Tensor, "n d"], k: int, center: bool, scale: Scale) -> Tensor:
    mean = d.mean(0)
    _, _, vectors = torch.linalg.svd(d - mean if center else d, full_matrices=False)
    vectors = vectors[:k]
    # A principal component has no sign of its own; the mean shift gives it one.
    vectors = vectors * torch.where(vectors @ mean < 0, -1.0, 1.0)[:, None]
    if k > 1:
        return vectors
    if scale == "projection_std" and d.shape[0] == 1:
        raise InputError("scale='projection_std' needs two rows or more: one has no standard deviation")
    along = d @ vectors[0]
    length = {"unit": torch.ones(()), "projection_mean": along.mean(), "projection_std": along.std()}
    if scale not in length:
        raise InputError(f"no scale {scale!r}: use {', '.join(length)}")
    return vectors[0] * length[scale].to(d)


def _project(x: Tensor, direction: Tensor, name: str) -> Tensor:
    if x.shape[-1] != direction.shape[-1]:
        raise MismatchError(
            f"activations of width {x.shape[-1]} and directions of width {direction.shape[-1]} {name}".strip()
        )
    rows = basis(direction, name).to(x.device)
    wide = x.to(torch.promote_types(x.dtype, rows.dtype))
    return ((wide @ rows.T.to(wide)) @ rows.to(wide)).to(x.dtype)


def _direction(directions: Directions | Tensor, name: str | None) -> Tensor:
    if isinstance(directions, Tensor):
        return directions
    if name is not None and name in directions:
        return directions[name]
    if len(directions) == 1 and name is None:
        return next(iter(directions.values()))
    where = "a tensor needs directions of one hook point" if name is None else f"no direction at {name!r}"
    raise MismatchError(f"{where}: these have {', '.join(list(directions)[:4])}")


@dataclass
class _Means:
    """Running sums over batches of activations."""

    model: str | None = None
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, batches: Activations | Iterable[Activations]) -> "_Means":
        """Sums over all batches."""
        means = cls()
        if not isinstance(batches, Iterable):
            raise InputError(f"activations is a {type(batches).__name__}: give what model.capture returned")
        for acts in [batches] if isinstance(batches, Activations) else batches:
            means.model = acts.model
            for name in acts:
                chosen = acts.selected(name).double()
                means.sums[name] = means.sums.get(name, 0) + chosen.sum(0)
                means.counts[name] = means.counts.get(name, 0) + chosen.shape[0]
        return means

    def mean(self, name: str) -> Tensor:
        """Mean at a hook point."""
        if self.counts[name] == 0:
            raise InputError(f"no activations at {name!r}: the position chose no tokens")
        return self.sums[name] / self.counts[name]

    def check(self, other: "_Means") -> None:
        """Refuse means that cannot be subtracted from one another."""
        if not self.sums or list(self.sums) != list(other.sums):
            raise MismatchError(
                f"activations of different hook points: {len(self.sums)} and {len(other.sums)}; capture the same ones"
            )
        if self.model != other.model:
            raise MismatchError(f"activations of different models ({self.model} and {other.model}) have no common axes")
        for name, mine in self.sums.items():
            if mine.shape != other.sums[name].shape:
                raise MismatchError(f"shapes {tuple(mine.shape)} and {tuple(other.sums[name].shape)} at {name!r}")


def _check_pair(a: Activations, b: Activations) -> None:
    if list(a) != list(b):
        raise MismatchError(f"activations of different hook points: {len(a)} and {len(b)}; capture the same ones")
    if a.model != b.model:
        raise MismatchError(f"activations of different models ({a.model} and {b.model}) have no common coordinates")
    for name in a:
        if a[name].shape[-1] != b[name].shape[-1]:
            raise MismatchError(f"widths {a[name].shape[-1]} and {b[name].shape[-1]} at {name!r}")


def _check_rows(a: Activations, b: Activations) -> None:
    if a.mask is not None or b.mask is not None:
        raise MismatchError("rows can be compared one by one at a single position: capture positions='last'")
    if a.n_rows != b.n_rows:
        raise MismatchError(f"{a.n_rows} and {b.n_rows} rows are not pairs")
