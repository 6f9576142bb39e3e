"""Directions: vectors (or subspaces) by hook point, how they are found, and the maths with them.

Pure maths: tensors in, tensors out, no model.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.byhook import ByHook
from cmrm_interp.displays import tensors as shown
from cmrm_interp.errors import HookPointError, InputError, MismatchError
from cmrm_interp.hooks import check_layers, layer_of, stack_sizes
from cmrm_interp.store import load as load_tensors
from cmrm_interp.store import save as save_tensors

KIND = "directions"
Rows = Literal["one", "batch", "subspace", "tokens"]


@dataclass(frozen=True, eq=False)
class Directions(ByHook):
    """Vectors by hook point.

    Attributes:
        tensors: hook point to ``d_model`` (one vector), ``batch d_model`` (one a row) or ``k d_model``.
        rows: what the first axis means: ``"one"`` (there is none), ``"batch"``, ``"subspace"`` or ``"tokens"`` (one for
            each chosen token of a row, such as the patches of an image); None leaves it to the use (`Add` and
            `Subtract` take one a row, `ProjectOut` and `project` a subspace).
        model: fingerprint of the model that they were made on; None is not checked.
        method: how they were made, for the record.
    """

    tensors: Mapping[str, Tensor]
    rows: Rows | None = None
    model: str | None = None
    method: str = "given"

    def __post_init__(self) -> None:
        """Refuse empty and non-finite directions."""
        if not self.tensors:
            raise InputError("directions need at least one hook point: Directions({'blocks.3.hook_resid_post': v})")
        for name, tensor in self.tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"the direction at {name!r} has NaN or infinite entries")
        if self.rows is None and all(t.ndim == 1 for t in self.tensors.values()):
            object.__setattr__(self, "rows", "one")

    def __eq__(self, other: object) -> bool:
        """Same hook points and bit-equal tensors."""
        if not isinstance(other, Directions) or list(self.tensors) != list(other.tensors):
            return False
        return all(torch.equal(tensor, other.tensors[name]) for name, tensor in self.tensors.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Hook points and shape, one line."""
        names = list(self.tensors)
        span = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]} ({len(names)})"
        return f"Directions({span}; shape {tuple(self.tensors[names[0]].shape)}; {self.method})"

    def _repr_html_(self) -> str:
        many = {name: (float(norms.mean()), norms.numel()) for name, norms in self.norms().items()}
        said = {name: f"{norm:.3g}" + (f" (mean of {n})" if n > 1 else "") for name, (norm, n) in many.items()}
        return shown(repr(self), said, "norm")

    def __add__(self, other: "Directions") -> "Directions":
        """Sum, point by point."""
        return self._with(other, torch.add, "+")

    def __sub__(self, other: "Directions") -> "Directions":
        """Difference, point by point."""
        return self._with(other, torch.sub, "-")

    def __mul__(self, factor: float | int) -> "Directions":
        """All vectors times a number."""
        return self.map(lambda tensor, _: tensor * factor)

    __rmul__ = __mul__

    def __neg__(self) -> "Directions":
        """The opposite directions."""
        return self * -1.0

    def map(self, fn: Callable[[Tensor, str], Tensor]) -> "Directions":
        """A function of tensor and hook name applied to every point."""
        return replace(self, tensors={name: fn(tensor, name) for name, tensor in self.tensors.items()})

    def norms(self) -> dict[str, Tensor]:
        """Euclidean length of each vector, by hook point."""
        return {name: tensor.float().norm(dim=-1) for name, tensor in self.tensors.items()}

    def unit(self) -> "Directions":
        """The same directions with length one.

        Raises:
            InputError: one of them is zero.
        """
        return self.map(lambda tensor, name: tensor / _nonzero(tensor, name).norm(dim=-1, keepdim=True))

    def at(self, layers: Iterable[int]) -> "Directions":
        """Only the given layers (negative ones count from the last)."""
        chosen = check_layers(layers, max(stack_sizes(list(self.tensors)).values(), default=0))
        kept = {name: t for name, t in self.tensors.items() if chosen is not None and layer_of(name) in chosen}
        if not kept:
            raise HookPointError(
                f"no direction at layers {list(layers)}: there are {', '.join(list(self.tensors)[:4])}"
            )
        return replace(self, tensors=kept)

    def increments(self) -> "Directions":
        """Each layer's vector less the one of the layer before it.

        Shifts of a residual stream accumulate from layer to layer; adding the increments at every layer
        moves the stream, to first order, by the whole shift and not by the sum of all shifts.
        """
        names = list(self.tensors)
        before = dict(zip(names[1:], names, strict=False))
        return self.map(lambda tensor, name: tensor - self.tensors[before[name]] if name in before else tensor)

    def transfer(self) -> "Directions":
        """The same directions without the record of their model, to be used on another one on purpose."""
        return replace(self, model=None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file, whole or not at all.

        Raises:
            StoreError: the disk is full or the folder cannot be written.
        """
        header = {"rows": self.rows, "model": self.model, "method": self.method, "hooks": list(self.tensors)}
        save_tensors(path, dict(self.tensors), {"kind": KIND, **header})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Directions":
        """Read what `save` wrote.

        Raises:
            StoreError: the file is missing, damaged, pickled or of another kind.
        """
        tensors, header = load_tensors(path, kind=KIND)
        ordered = {name: tensors[name] for name in header["hooks"]}
        return cls(ordered, rows=header["rows"], model=header["model"], method=header["method"])

    def _with(self, other: "Directions", op: Callable[[Tensor, Tensor], Tensor], sign: str) -> "Directions":
        if set(self.tensors) != set(other.tensors):
            raise MismatchError(
                f"directions of different hook points: {len(self)} and {len(other)}; use .at(layers) first"
            )
        joined = {name: op(tensor, other.tensors[name]) for name, tensor in self.tensors.items()}
        return replace(self, tensors=joined, method=f"{self.method} {sign} {other.method}")


def cosine(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cosine of the angle between two sets of vectors, at every hook point that both have.

    Raises:
        MismatchError: they share no hook point.
    """
    shared = [name for name in a if name in b]
    if not shared:
        raise MismatchError("these directions share no hook point")
    return {n: torch.nn.functional.cosine_similarity(a[n].double(), b[n].double(), dim=-1).float() for n in shared}


def random_like(directions: Directions, seed: int) -> Directions:
    """Random directions with the same norms: the control of every steering experiment.

    Args:
        directions: what to imitate.
        seed: of the generator.
    """
    generator = torch.Generator().manual_seed(seed)

    def _draw(tensor: Tensor, name: str) -> Tensor:
        noise = torch.randn(tensor.shape, generator=generator).to(tensor)
        return noise * (tensor.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True))

    return replace(directions.map(_draw), method=f"random with the norms of: {directions.method}")


def basis(tensor: Tensor, name: str = "") -> Float[Tensor, "k d_model"]:
    """Orthonormal basis of what a vector or the rows of a matrix span, in fp32 or better.

    Raises:
        InputError: the vectors are zero.
    """
    rows = _nonzero(tensor, name).reshape(-1, tensor.shape[-1])
    wide = rows if rows.dtype == torch.float64 else rows.float()
    _, values, vectors = torch.linalg.svd(wide, full_matrices=False)
    return vectors[values > values[0] * 1e-6]


def _nonzero(tensor: Tensor, name: str) -> Tensor:
    if not bool((tensor.norm(dim=-1) > 0).all()):
        raise InputError(f"the direction at {name!r} is zero: it cannot be projected on or scaled to length one")
    return tensor
