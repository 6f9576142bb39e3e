"""Activations: hook points x prompts x positions, as captured; a plain value that slices and saves."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from cmrm_interp.axes import Bool, Float, Tensor
from cmrm_interp.byhook import ByHook
from cmrm_interp.displays import tensors as shown
from cmrm_interp.errors import MismatchError
from cmrm_interp.hooks import pos_axis
from cmrm_interp.positions import Position, from_data, to_data
from cmrm_interp.store import load as load_tensors
from cmrm_interp.store import save as save_tensors

KIND = "activations"
_MASK = "mask"


@dataclass(frozen=True, eq=False)
class Activations(ByHook):
    """Activations by hook point.

    A single position (``"last"``, ``"first"``, an int) gives ``batch d_model``; several give ``batch pos d_model``
    with `mask` True where a row has a token there. ``"all"`` keeps the columns of the padded batch;
    other choices move the chosen tokens of each row to the front. Points of the vision side hold
    ``image patch d_vision`` whatever the position, and masks of their own.

    Attributes:
        tensors: hook point to activation.
        positions: the position that was captured.
        mask: which positions of the rows are tokens; None for a single position.
        patch_masks: the same for each point of the vision side.
        model: fingerprint of the model that they come from, or None.
    """

    tensors: Mapping[str, Tensor]
    positions: Position = "last"
    mask: Bool[Tensor, "batch pos"] | None = None
    patch_masks: Mapping[str, Tensor] = field(default_factory=dict)
    model: str | None = None

    def __eq__(self, other: object) -> bool:
        """Same hook points, positions and masks, and bit-equal tensors."""
        if not isinstance(other, Activations) or self.positions != other.positions:
            return False
        mine, theirs = self.everything(), other.everything()
        return list(mine) == list(theirs) and all(torch.equal(t, theirs[n]) for n, t in mine.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Shapes by hook point, one line."""
        shapes = [f"{name}: {tuple(self.tensors[name].shape)}" for name in list(self.tensors)[:3]]
        more = f", ... {len(self)} hook points" if len(self) > 3 else ""
        return f"Activations({', '.join(shapes)}{more}; positions={self.positions!r})"

    def _repr_html_(self) -> str:
        summary = f"Activations: {self.n_rows} rows at {len(self)} hook points, positions={self.positions!r}"
        return shown(summary, {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}, "shape")

    @property
    def n_rows(self) -> int:
        """Number of prompts (of images, where only points of the vision side were captured)."""
        tokens = [tensor for name, tensor in self.tensors.items() if name not in self.patch_masks]
        return next(iter(tokens or self.tensors.values())).shape[0] if self.tensors else 0

    def mask_of(self, hook: str) -> Bool[Tensor, "batch pos"] | None:
        """Mask that belongs to a hook point: of patches on the vision side, of tokens elsewhere."""
        return self.patch_masks.get(hook, self.mask)

    def selected(self, hook: str) -> Float[Tensor, "n *shape"]:
        """All captured activations of a hook point, rows and positions run together, padding left out."""
        value, mask = self[hook], self.mask_of(hook)
        return value if mask is None else value.movedim(pos_axis(hook), 1)[mask.to(value.device)]

    def rows(self, index: slice | Sequence[int]) -> "Activations":
        """The same for some of the prompts.

        Raises:
            MismatchError: points of the vision side that do not have one image for each prompt.
        """
        if any(mask.shape[0] != self.n_rows for mask in self.patch_masks.values()):
            raise MismatchError(
                f"{self.n_rows} prompts have not one image each, so their patches cannot be sliced by prompt"
            )
        return self._each(lambda tensor: tensor[index])

    def to(self, *args: object, **kwargs: object) -> "Activations":
        """Moved or cast as `torch.Tensor.to` does; masks are moved, not cast."""
        return replace(self, tensors={name: t.to(*args, **kwargs) for name, t in self.tensors.items()})  # type: ignore[arg-type]

    def map(self, fn: Callable[[Tensor, str], Tensor]) -> "Activations":
        """A function of activation and hook name applied to every point."""
        return replace(self, tensors={name: fn(tensor, name) for name, tensor in self.tensors.items()})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file, whole or not at all.

        Raises:
            StoreError: the disk is full, the folder cannot be written, or the positions are a function.
        """
        header = {
            "positions": to_data(self.positions),
            "model": self.model,
            "hooks": list(self.tensors),
        }
        save_tensors(path, self.everything(), {"kind": KIND, **header})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Activations":
        """Read what `save` wrote.

        Raises:
            StoreError: the file is missing, damaged or of another kind.
        """
        tensors, header = load_tensors(path, kind=KIND)
        ordered = {name: tensors.pop(name) for name in header["hooks"]} | tensors
        return cls.from_everything(ordered, from_data(header["positions"]), header["model"])

    @classmethod
    def from_everything(cls, table: Mapping[str, Tensor], positions: Position, model: str | None) -> "Activations":
        """Activations from what `everything` gave."""
        tensors = {name: tensor for name, tensor in table.items() if name.split(":")[0] != _MASK}
        patches = {name: table[f"{_MASK}:{name}"] for name in tensors if f"{_MASK}:{name}" in table}
        return cls(tensors, positions, table.get(_MASK), patches, model)

    def everything(self) -> dict[str, Tensor]:
        """Activations and masks as one table of tensors, for files."""
        masks = {f"{_MASK}:{name}": mask for name, mask in self.patch_masks.items()}
        own = {} if self.mask is None else {_MASK: self.mask}
        return {**self.tensors, **masks, **own}

    def _each(self, fn: Callable[[Tensor], Tensor]) -> "Activations":
        mask = None if self.mask is None else fn(self.mask)
        patches = {name: fn(t) for name, t in self.patch_masks.items()}
        return replace(self, tensors={n: fn(t) for n, t in self.tensors.items()}, mask=mask, patch_masks=patches)


def concatenate(parts: Sequence[Activations], pad_left: bool = False) -> Activations:
    """Batches joined into one value; shorter ones are padded with zeros.

    Args:
        parts: activations of the same hook points and positions.
        pad_left: whether the inputs are padded before the tokens; columns of ``"all"`` and keys of patterns then
            are, too, while chosen tokens stay at the front.

    Raises:
        MismatchError: the parts have different hook points or positions.
    """
    # A batch without images has nothing at the points of the vision side, so the fullest part names the points.
    first = max(parts, key=len)
    for part in parts:
        if set(first) - set(part) - set(first.patch_masks) or part.positions != first.positions:
            raise MismatchError("these activations have different hook points or positions and cannot be joined")
    if len(parts) == 1:
        return first
    patches = {n: [p for p in parts if n in p] for n in first.patch_masks}
    before = {n: _padded_before(n, first) if pad_left and n not in patches else () for n in first}
    masks = [part.mask for part in parts if part.mask is not None]
    return replace(
        first,
        tensors={n: _join([p[n] for p in patches.get(n, parts)], before[n], n) for n in first},
        mask=_join(masks, (1,) if pad_left and _has_columns(first) else ()) if masks else None,
        patch_masks={name: _join([p.patch_masks[name] for p in having]) for name, having in patches.items()},
    )


def _has_columns(acts: Activations) -> bool:
    return acts.positions in ("all", "prompt")


def _padded_before(hook: str, acts: Activations) -> tuple[int, ...]:
    keys = (acts[hook].ndim - 1,) if pos_axis(hook) == 2 else ()
    return (pos_axis(hook), *keys) if _has_columns(acts) else keys


def _join(tensors: Sequence[Tensor], before: Sequence[int] = (), hook: str = "") -> Tensor:
    shape = [max(sizes) for sizes in zip(*(t.shape[1:] for t in tensors), strict=True)]
    # A key that is not there is one that is masked.
    fill = torch.finfo(tensors[0].dtype).min if hook.endswith(".hook_attn_scores") else 0.0
    return torch.cat([_pad(t, shape, before, fill) for t in tensors])


def _pad(tensor: Tensor, shape: Sequence[int], before: Sequence[int], fill: float) -> Tensor:
    missing = [want - have for want, have in zip(shape, tensor.shape[1:], strict=True)]
    if not any(missing):
        return tensor
    sides = [(m, 0) if axis in before else (0, m) for axis, m in enumerate(missing, start=1)]
    # torch.nn.functional.pad names the last axis first.
    return torch.nn.functional.pad(tensor, [n for side in reversed(sides) for n in side], value=fill)
