"""Layouts: which images, crops and image tokens of a batch belong to each other.

An image becomes image tokens in one row of the prompts, and one or several *crops*, which are the rows of
the vision tower: LLaVA-NeXT, Idefics3 and InternVL cut an image into crops, other families see it whole.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from cmrm_interp.axes import Bool, Int, Tensor
from cmrm_interp.errors import InputError

TokenId = Callable[[str], int | None]


@dataclass(frozen=True)
class Picture:
    """One image of a batch.

    Attributes:
        row: the prompt that it belongs to.
        tokens: image tokens that it takes there.
        crops: rows of the vision tower that it takes.
    """

    row: int
    tokens: int
    crops: int = 1


@dataclass(frozen=True)
class Facts:
    """What a layout may know of the model.

    Attributes:
        config: of the Hugging Face model.
        token_id: id of a token by its text, None if there is no such token.
    """

    config: Any
    token_id: TokenId


@dataclass(frozen=True)
class Layout(ABC):
    """How the images of a batch lie in the model's inputs.

    Attributes:
        pixels: names of the inputs that carry images, the pixels themselves first.
    """

    pixels: tuple[str, ...] = ("pixel_values",)

    @abstractmethod
    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """The images, in the order of the rows.

        Args:
            tensors: what the model is called with, pixels included.
            image: true at image tokens.
            model: ``config`` (of the Hugging Face model) and ``token_id`` (of a token's text).

        Raises:
            InputError: the image tokens do not add up to the images.
        """

    @abstractmethod
    def select(self, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], rows: slice) -> dict[str, Tensor]:
        """The inputs that carry images, for some rows with at least one."""

    def has_pixels(self, tensors: Mapping[str, Any]) -> bool:
        """Whether these inputs carry any image."""
        return tensors.get(self.pixels[0]) is not None


@dataclass(frozen=True)
class EachImage(Layout):
    """One row of pixels an image, the same number of tokens for each (LLaVA 1.5, PaliGemma, BLIP-2)."""

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """Images that share the image tokens evenly."""
        n = tensors[self.pixels[0]].shape[0]
        return spread(image.sum(1).tolist(), [int(image.sum()) // n] * n)

    def select(self, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], rows: slice) -> dict[str, Tensor]:
        """Rows of every input."""
        first, last = within(pictures, rows)
        return {name: tensors[name][first:last] for name in self.pixels if name in tensors}


@dataclass(frozen=True)
class Grids(Layout):
    """Patches of all images run together, with a grid of time, height and width for each (Qwen2-VL, GLM-4V)."""

    pixels: tuple[str, ...] = ("pixel_values", "image_grid_thw")

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """Images with the tokens that their grids give."""
        merge = model.config.vision_config.spatial_merge_size**2
        return spread(image.sum(1).tolist(), (tensors[self.pixels[1]].prod(-1) // merge).tolist())

    def select(self, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], rows: slice) -> dict[str, Tensor]:
        """Patches and grids."""
        first, last = within(pictures, rows)
        pixels, grid = self.pixels
        ends = [0, *tensors[grid].prod(-1).cumsum(0).tolist()]
        return {pixels: tensors[pixels][ends[first] : ends[last]], grid: tensors[grid][first:last]}


@dataclass(frozen=True)
class Sized(EachImage):
    """One row of pixels an image, padded, with its height and width, which give its tokens (Pixtral, Mistral 3)."""

    pixels: tuple[str, ...] = ("pixel_values", "image_sizes")

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """Images with the tokens that their sizes give."""
        unit = model.config.vision_config.patch_size * (getattr(model.config, "spatial_merge_size", None) or 1)
        return spread(image.sum(1).tolist(), (tensors[self.pixels[1]] // unit).prod(-1).tolist())


@dataclass(frozen=True)
class Placed(EachImage):
    """One row of patches an image, padded, with the place of each patch, -1 for padding (Gemma 4)."""

    pixels: tuple[str, ...] = ("pixel_values", "image_position_ids")

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """Images with the tokens that their patches are pooled to."""
        patches = (tensors[self.pixels[1]] != -1).all(-1).sum(-1)
        return spread(image.sum(1).tolist(), (patches // model.config.vision_config.pooling_kernel_size**2).tolist())


@dataclass(frozen=True)
class AnyResolution(EachImage):
    """Images cut by aspect ratio, whose padding is taken out again (LLaVA-NeXT, LLaVA-OneVision)."""

    pixels: tuple[str, ...] = ("pixel_values", "image_sizes")

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """Images with the crops and tokens that their sizes give."""
        sizes = tensors[self.pixels[1]].tolist()
        # Images of a prompt with several are not cut in models that are told how many there are.
        several = [n > 1 for name in self.pixels[2:] for n in tensors[name].tolist() for _ in range(n)]
        whole = [one or tensors[self.pixels[0]].ndim == 4 for one in several or [False] * len(sizes)]
        crops = [1 if one else _crops(size, model.config) for size, one in zip(sizes, whole, strict=True)]
        tokens = [_tokens(size, n, model.config) for size, n in zip(sizes, crops, strict=True)]
        found = spread(image.sum(1).tolist(), tokens)
        return [replace(picture, crops=n) for picture, n in zip(found, crops, strict=True)]

    def select(self, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], rows: slice) -> dict[str, Tensor]:
        """Rows of every input; there is one number of images for each prompt that has some."""
        first, last = within(pictures, rows)
        out = {name: tensors[name][first:last] for name in self.pixels[:2]}
        for name in self.pixels[2:]:
            having = sorted({picture.row for picture in pictures})
            out[name] = tensors[name][[i for i, row in enumerate(having) if rows.start <= row < rows.stop]]
        return out


def _crops(size: Sequence[int], config: Any) -> int:
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

    return image_size_to_num_patches(size, config.image_grid_pinpoints, config.vision_config.image_size)


def _tokens(size: Sequence[int], crops: int, config: Any) -> int:
    """Tokens of an image: the whole, and its crops without their padding, with a token at the end of each line."""
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

    side = config.vision_config.image_size
    n = side // config.vision_config.patch_size
    if crops == 1:
        return n * n + 1
    rows, columns = get_anyres_image_grid_shape(size, config.image_grid_pinpoints, side)
    height, width = unpad_image(torch.empty(1, rows * n, columns * n), size).shape[1:]
    limit = getattr(config, "vision_aspect_ratio", None)
    if limit:
        # LLaVA-OneVision makes a picture of too many patches smaller.
        ratio = math.sqrt(height * width / (int(limit.removeprefix("anyres_max_")) * n * n))
        if ratio > 1.1:
            height, width = int(height // ratio), int(width // ratio)
    return n * n + height * (width + 1)


@dataclass(frozen=True)
class Crops(Layout):
    """One row of pixels a crop, the same number of tokens for each crop (InternVL, Aya Vision).

    Attributes:
        inside: tokens that may stand between the crops of one image.
    """

    inside: tuple[str, ...] = ()

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """Runs of image tokens, with as many crops as their tokens make."""
        each = int(image.sum()) // tensors[self.pixels[0]].shape[0]
        return [Picture(row, n, n // each) for row, n in runs(image | self._joints(tensors, model), image)]

    def select(self, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], rows: slice) -> dict[str, Tensor]:
        """Crops of the rows."""
        first, last = within(pictures, rows)
        start = sum(p.crops for p in pictures[:first])
        stop = start + sum(p.crops for p in pictures[first:last])
        return {name: tensors[name][start:stop] for name in self.pixels if name in tensors}

    def _joints(self, tensors: Mapping[str, Tensor], model: Facts) -> Bool[Tensor, "batch pos"]:
        known = [model.token_id(token) for token in self.inside]
        return torch.isin(tensors["input_ids"], torch.tensor([i for i in known if i is not None], dtype=torch.long))


@dataclass(frozen=True)
class RowCrops(Layout):
    """Pixels with an axis of prompts, padded with empty crops (Idefics3, SmolVLM).

    Attributes:
        last: token before an image's last crop, by which the images of one prompt are told apart.
    """

    pixels: tuple[str, ...] = ("pixel_values", "pixel_attention_mask")
    last: str = "<global-img>"

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """Images that end with the crop behind the token `last`."""
        pixels = tensors[self.pixels[0]]
        crops = (pixels != 0).flatten(2).any(-1).sum(1)
        each = int(image.sum()) // max(int(crops.sum()), 1)
        ids, marker = tensors["input_ids"], model.token_id(self.last)
        if marker is None:
            return [Picture(row, n, n // each) for row, n in runs(image)]
        found = []
        for row in image.any(1).nonzero().flatten().tolist():
            ends = (ids[row] == marker).nonzero().flatten().tolist() or [-1]
            closed = [int(image[row, :end].sum()) + each for end in ends[:-1]] + [int(image[row].sum())]
            sizes = [after - before for before, after in zip([0, *closed[:-1]], closed, strict=True)]
            found += [Picture(row, size, size // each) for size in sizes]
        return found

    def select(self, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], rows: slice) -> dict[str, Tensor]:
        """The rows."""
        return {name: tensors[name][rows] for name in self.pixels if name in tensors}


@dataclass(frozen=True)
class RowImages(RowCrops):
    """Pixels with axes of prompts and images, padded with empty images; one token an image (Mllama)."""

    pixels: tuple[str, ...] = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask", "cross_attention_mask")

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """Images, and the empty ones that fill the rows up."""
        width = tensors[self.pixels[0]].shape[1]
        return [Picture(row, int(i < n)) for row, n in enumerate(image.sum(1).tolist()) for i in range(width)]


def spread(tokens: Sequence[int], sizes: Sequence[int]) -> list[Picture]:
    """Images of given numbers of tokens, laid out over rows of given numbers of image tokens.

    Raises:
        InputError: they do not add up.
    """
    found: list[Picture] = []
    for row, left in enumerate(tokens):
        while left > 0 and len(found) < len(sizes):
            found.append(Picture(row, sizes[len(found)]))
            left -= found[-1].tokens
        if left != 0:
            raise InputError(f"row {row}: its image tokens do not match the images of this encoding")
    if len(found) != len(sizes):
        raise InputError(f"{len(sizes)} images, but image tokens for {len(found)}")
    return found


def runs(joined: Bool[Tensor, "batch pos"], counted: Bool[Tensor, "batch pos"] | None = None) -> list[tuple[int, int]]:
    """Unbroken runs of true entries, as ``(row, length)``; only entries of `counted` count, and runs need one."""
    counted = joined if counted is None else counted
    number = _run_numbers(joined)
    found = []
    for row in range(joined.shape[0]):
        lengths = torch.bincount(number[row][counted[row]]) if bool(counted[row].any()) else torch.zeros(0)
        found += [(row, int(n)) for n in lengths.tolist() if n]
    return found


def _run_numbers(joined: Bool[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
    starts = joined.clone()
    starts[:, 1:] &= ~joined[:, :-1]
    return starts.long().cumsum(1)


def within(pictures: Sequence[Picture], rows: slice) -> tuple[int, int]:
    """Numbers of the first picture in some rows, and of the one behind the last."""
    chosen = [number for number, picture in enumerate(pictures) if rows.start <= picture.row < rows.stop]
    return (chosen[0], chosen[-1] + 1) if chosen else (0, 0)
