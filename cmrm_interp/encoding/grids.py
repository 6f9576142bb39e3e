"""Where in an image its tokens belong: the grid of patches, and the picture that it divides.

Models resize and cut images before they look at them, so the picture is what the model is given, where its pixels
are a picture at all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from PIL import Image

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.encoding.encoder import Encoder
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.families.layouts import (
    AnyResolution,
    Crops,
    EachImage,
    Grids,
    Layout,
    Picture,
    Placed,
    RowCrops,
    RowImages,
    Sized,
)
from cmrm_interp.images import ImageSource, load_image


@dataclass(frozen=True)
class PatchGrid:
    """The patches of one image.

    Attributes:
        rows, columns: of the grid.
        first: number, among the image's tokens, of the one that stands for the upper left patch; the others follow
            in reading order. Tokens outside (details, line ends, a class token) have no place.
        picture: what the grid divides evenly.
    """

    rows: int
    columns: int
    first: int
    picture: Image.Image

    def cells(self, patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of an image's tokens by their numbers; -1 for those outside the grid."""
        place = np.asarray(patch) - self.first
        outside = (place < 0) | (place >= self.rows * self.columns)
        return np.where(outside, -1, place // self.columns), np.where(outside, -1, place % self.columns)


def patch_grid(
    encoder: Encoder, tensors: Mapping[str, Tensor], image: int = 0, whole: ImageSource | None = None
) -> PatchGrid:
    """The grid of patches of one image of one prompt.

    Families that cut images (LLaVA-NeXT, InternVL, Idefics3) show the whole picture as well, which is the one meant.

    Args:
        encoder: of the model.
        tensors: encoding of the prompt, one row.
        image: number of the image in it.
        whole: the image as it was given, for families whose pixels are no picture (Qwen2-VL, Gemma 4).

    Raises:
        HookPointError: there is no such image.
        InputError: image tokens of this family have no places, or the image as given is needed.
    """
    vision, pictures = encoder.family.vision, encoder.pictures(tensors)
    own = [number for number, picture in enumerate(pictures) if picture.tokens]
    if vision is None or not 0 <= image < len(own):
        raise HookPointError(f"this prompt has {len(own)} images, counted from 0: there is no image {image}")
    if vision.qformer is not None:
        raise InputError(
            f"image tokens of {encoder.family.name} are a Q-Former's queries: each sees all of the image, none has a"
            " place"
        )
    cells = _cells(vision.layout, tensors, pictures, own[image], encoder.config)
    if cells.pixels is not None:
        return PatchGrid(cells.rows, cells.columns, cells.first, _as_seen(cells.pixels, encoder.processor))
    if whole is None:
        raise InputError(f"pixels of {encoder.family.name} are no picture: make the inputs with model.prepare")
    # Models that take any size resize, but cut nothing away.
    return PatchGrid(cells.rows, cells.columns, cells.first, load_image(whole))


@dataclass(frozen=True)
class _Cells:
    rows: int
    columns: int
    first: int = 0
    pixels: Tensor | None = None


@singledispatch
def _cells(
    layout: Layout, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], number: int, config: Any
) -> _Cells:
    raise InputError(f"where image tokens of {type(layout).__name__} belong in an image is not known")


@_cells.register
def _(
    layout: EachImage, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], number: int, config: Any
) -> _Cells:
    n = pictures[number].tokens
    # LLaVA may keep the tower's class token in front.
    front = 1 if getattr(config, "vision_feature_select_strategy", None) == "full" and _is_square(n - 1) else 0
    return _square(n - front, front, tensors[layout.pixels[0]][number])


@_cells.register
def _(layout: Grids, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], number: int, config: Any) -> _Cells:
    time, height, width = tensors[layout.pixels[1]][number].tolist()
    if time != 1:
        raise InputError(f"{time} frames have no single picture: give an image and not a video")
    merge = config.vision_config.spatial_merge_size
    return _Cells(height // merge, width // merge)


@_cells.register
def _(layout: Sized, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], number: int, config: Any) -> _Cells:
    unit = config.vision_config.patch_size * (getattr(config, "spatial_merge_size", None) or 1)
    height, width = tensors[layout.pixels[1]][number].tolist()
    pixels = tensors[layout.pixels[0]][number][:, :height, :width]
    return _Cells(height // unit, width // unit, pixels=pixels)


@_cells.register
def _(layout: Placed, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], number: int, config: Any) -> _Cells:
    columns, rows = (tensors[layout.pixels[1]][number].amax(0) + 1) // config.vision_config.pooling_kernel_size
    return _Cells(int(rows), int(columns))


@_cells.register
def _(
    layout: AnyResolution, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], number: int, config: Any
) -> _Cells:
    side = config.vision_config.image_size // config.vision_config.patch_size
    pixels = tensors[layout.pixels[0]][number]
    return _Cells(side, side, pixels=pixels[0] if pixels.ndim == 4 else pixels)


@_cells.register
def _(layout: Crops, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], number: int, config: Any) -> _Cells:
    picture = pictures[number]
    each = picture.tokens // picture.crops
    last = sum(before.crops for before in pictures[: number + 1]) - 1
    return _square(each, picture.tokens - each, tensors[layout.pixels[0]][last])


@_cells.register
def _(layout: RowCrops, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], number: int, config: Any) -> _Cells:
    picture = pictures[number]
    each = picture.tokens // picture.crops
    last = sum(before.crops for before in pictures[: number + 1] if before.row == picture.row) - 1
    return _square(each, picture.tokens - each, tensors[layout.pixels[0]][picture.row, last])


@_cells.register
def _(
    layout: RowImages, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], number: int, config: Any
) -> _Cells:
    raise InputError(
        "this family has one token an image and sees patches by cross-attention alone: no token has a place"
    )


def _is_square(n: int) -> bool:
    return n > 0 and math.isqrt(n) ** 2 == n


def _square(n: int, first: int, pixels: Tensor) -> _Cells:
    if not _is_square(n):
        raise InputError(f"{n} image tokens are no square: where they belong in the image is not known")
    return _Cells(math.isqrt(n), math.isqrt(n), first, pixels)


def _as_seen(pixels: Float[Tensor, "channel height width"], processor: Any) -> Image.Image:
    values = pixels.float().cpu().permute(1, 2, 0).numpy()
    images = getattr(processor, "image_processor", None)
    if images is not None and images.do_normalize:
        values = values * np.asarray(images.image_std) + np.asarray(images.image_mean)
    elif images is None:
        values = (values - values.min()) / max(float(values.max() - values.min()), 1e-12)
    return Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))
