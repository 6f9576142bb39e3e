"""Shapes: how the rows of an activation lie in a module's tensor.

Most modules keep one row a prompt (or an image). Some run all rows together; capture and interventions
see one form all the same.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from cmrm_interp.axes import Int, Tensor
from cmrm_interp.errors import ModelError


class Shape(ABC):
    """One way in which rows lie in a tensor."""

    @abstractmethod
    def rows(self, tensor: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """The tensor with an axis of rows, padded with zeros where rows differ in length."""

    @abstractmethod
    def joined(self, rows: Tensor, like: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """What `rows` undoes, in the form of the tensor `like`."""

    def counts(self, inputs: Mapping[str, Any]) -> list[int] | None:
        """Length of each row, or None where all entries are real."""
        return None

    def fitted(self, config: Any) -> "Shape":
        """The same with what the configuration of a model says of it."""
        return self


@dataclass(frozen=True)
class AsIs(Shape):
    """One row each."""

    def rows(self, tensor: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """The tensor itself."""
        return tensor

    def joined(self, rows: Tensor, like: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """The rows themselves."""
        return rows


AS_IS = AsIs()


@dataclass(frozen=True)
class Flat(Shape):
    """Rows and positions of the prompts joined into one axis, as routers and OPT's MLPs have them."""

    def rows(self, tensor: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Split by the number of prompts."""
        return tensor.unflatten(0, (inputs["input_ids"].shape[0], -1)) if tensor.ndim == 2 else tensor

    def joined(self, rows: Tensor, like: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Joined again."""
        return rows.flatten(0, 1) if like.ndim == 2 else rows


@dataclass(frozen=True)
class ByPrompt(Shape):
    """Pieces of several images of a prompt on an axis of their own (keys and values of Mllama's cross-attention)."""

    def rows(self, tensor: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """One row a prompt."""
        return tensor.reshape(inputs["input_ids"].shape[0], -1, *tensor.shape[2:])

    def joined(self, rows: Tensor, like: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """With the axes of images and tiles again."""
        return rows.reshape(like.shape)


@dataclass(frozen=True)
class Tiles(Shape):
    """``prompt image tile patch d``, as Mllama's projector has it: one row an image, its tiles one after another."""

    def rows(self, tensor: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """One row an image."""
        return tensor.flatten(2, 3).flatten(0, 1)

    def joined(self, rows: Tensor, like: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """With the axes of prompts and tiles again."""
        return rows.reshape(like.shape)


@dataclass(frozen=True)
class Grid(AsIs):
    """``crop row column d``, for projectors that keep the picture's two axes (Aya Vision)."""

    def rows(self, tensor: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Rows and columns joined."""
        return tensor.flatten(1, -2)

    def joined(self, rows: Tensor, like: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Rows and columns apart."""
        return rows.reshape(like.shape)


@dataclass(frozen=True)
class Loose(Grid):
    """Whatever axes a tower has between its crops and its width, or none: then crops of equal length were joined.

    Attributes:
        pixels: name of the model input with the crops.
    """

    pixels: str = "pixel_values"

    def rows(self, tensor: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """One row a crop."""
        if tensor.ndim > 2:
            return super().rows(tensor, inputs)
        return tensor.unflatten(0, (math.prod(inputs[self.pixels].shape[:-3]), -1))


@dataclass(frozen=True)
class Packed(Shape):
    """Patches of all images run together, as in Qwen2-VL (``patch d``) and Pixtral (``1 patch d``).

    Attributes:
        sizes: name of the model input that tells each image's size.
        pixels: whether that input counts pixels, and not patches.
        merged: whether neighbouring patches have become one by this point.
        unit, merge: pixels along a patch's side, patches that became one: from the configuration.
    """

    sizes: str = "image_grid_thw"
    pixels: bool = False
    merged: bool = False
    unit: int = 1
    merge: int = 1

    def fitted(self, config: Any) -> "Packed":
        """With patch size and merging of a model."""
        vision = config.vision_config
        side = getattr(vision, "spatial_merge_size", None) or getattr(config, "spatial_merge_size", None) or 1
        patch = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
        return replace(self, unit=patch if self.pixels else 1, merge=side**2 if self.merged else 1)

    def rows(self, tensor: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Rows padded with zeros to the longest image."""
        flat, counts = tensor.flatten(0, -2), self.counts(inputs)
        if flat.shape[0] != sum(counts):
            raise ModelError(
                f"{flat.shape[0]} patches where {self.sizes} {torch.as_tensor(inputs[self.sizes]).tolist()} makes"
                f" {sum(counts)}: the map of this model's vision side does not fit it (VisionMap(shape=...,"
                " out_shape=..., projected=...))"
            )
        return nn.utils.rnn.pad_sequence(list(flat.split(counts)), batch_first=True)

    def joined(self, rows: Tensor, like: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Rows run together again, without the padding."""
        parts = [row[:n] for row, n in zip(rows, self.counts(inputs), strict=True)]
        return torch.cat(parts).reshape(like.shape)

    def counts(self, inputs: Mapping[str, Any]) -> list[int]:
        """Patches of each image."""
        sizes = torch.as_tensor(inputs[self.sizes])
        if self.pixels:
            # What is left over at an edge is dropped.
            return (sizes // (self.unit * math.isqrt(self.merge))).prod(-1).tolist()
        return ((sizes // self.unit).prod(-1) // self.merge).tolist()


@dataclass(frozen=True)
class Pooled(Packed):
    """Packed tokens, pooled from patches whose places are told, -1 for padding (Gemma 4)."""

    sizes: str = "image_position_ids"

    def fitted(self, config: Any) -> "Pooled":
        """With the pooling of a model."""
        return replace(self, merge=config.vision_config.pooling_kernel_size**2)

    def counts(self, inputs: Mapping[str, Any]) -> list[int]:
        """Tokens of each image."""
        return ((inputs[self.sizes] != -1).all(-1).sum(-1) // self.merge).tolist()


@dataclass(frozen=True)
class Placed(AsIs):
    """One row of patches an image, padded; the place of each patch is told, -1 for padding (Gemma 4)."""

    def counts(self, inputs: Mapping[str, Any]) -> list[int]:
        """Patches of each image."""
        return (inputs["image_position_ids"] != -1).all(-1).sum(-1).tolist()


@dataclass(frozen=True)
class Windows(Packed):
    """Packed patches in the order of attention windows (Qwen2.5-VL), put back into reading order.

    Attributes:
        windows: merged patches along a window's side, window and patch in pixels: from the configuration.
    """

    windows: tuple[int, int, int] = (2, 112, 14)

    def fitted(self, config: Any) -> "Windows":
        """With the windows of a model."""
        vision = config.vision_config
        fit = super().fitted(config)
        sizes = (vision.spatial_merge_size, vision.window_size, vision.patch_size)
        return replace(self, unit=fit.unit, merge=fit.merge, windows=sizes)

    def rows(self, tensor: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Rows in reading order."""
        return super().rows(self._reordered(tensor, torch.argsort(self._order(inputs))), inputs)

    def joined(self, rows: Tensor, like: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Run together in the order of windows."""
        return self._reordered(super().joined(rows, like, inputs), self._order(inputs))

    def _order(self, inputs: Mapping[str, Any]) -> Int[Tensor, " group"]:
        from transformers.vision_utils import get_vision_window_index

        return get_vision_window_index(inputs[self.sizes], *self.windows)[0]

    def _reordered(self, tensor: Tensor, order: Int[Tensor, " group"]) -> Tensor:
        groups = tensor.unflatten(0, (order.shape[0], -1))
        return groups[order.to(tensor.device)].flatten(0, 1)
