"""A layout for models of no registered family: one of the known ones, by what the inputs look like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmrm_interp.axes import Bool, Tensor
from cmrm_interp.errors import InputError
from cmrm_interp.families.layouts import Crops, Facts, Grids, Layout, Picture, RowCrops, runs, spread, within


@dataclass(frozen=True)
class Runs(Crops):
    """One row of pixels an image, whose tokens are an unbroken run."""

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """Runs of image tokens."""
        return [Picture(row, n) for row, n in runs(image)]


@dataclass(frozen=True)
class AnyGrids(Grids):
    """Grids of patches, of which the same number becomes a token in every image."""

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """Images with the tokens that their grids give; configurations have no one name for what is merged."""
        patches = tensors[self.pixels[1]].prod(-1)
        merged = max(int(patches.sum()) // max(int(image.sum()), 1), 1)
        return spread(image.sum(1).tolist(), (patches // merged).tolist())


@dataclass(frozen=True)
class AnyLayout(Layout):
    """Grids, rows with an axis of crops, one row an image, or one row a crop: told by the tensors."""

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """As the layout that fits."""
        return self._fitting(tensors, image).pictures(tensors, image, model)

    def select(self, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], rows: slice) -> dict[str, Tensor]:
        """As the layout that fits; what comes with the pixels goes by the images, the rows or the crops, by its length.

        Raises:
            InputError: an input of another length than all of these.
        """
        ids = tensors["input_ids"]
        layout = self._fitting(tensors, ids != ids)
        out = layout.select(tensors, pictures, rows)
        first, last = within(pictures, rows)
        crops = [sum(picture.crops for picture in pictures[:n]) for n in (first, last, len(pictures))]
        ways = [(len(pictures), slice(first, last)), (ids.shape[0], rows), (crops[2], slice(*crops[:2]))]
        for name in self.pixels:
            if name in tensors and name not in out:
                fitting = [rows for n, rows in ways if n == tensors[name].shape[0]]
                if not fitting:
                    raise InputError(
                        f"{name!r} has {tensors[name].shape[0]} entries, for {ids.shape[0]} prompts and"
                        f" {len(pictures)} images: it cannot be split into batches, use batch_size={ids.shape[0]}"
                    )
                out[name] = tensors[name][fitting[0]]
        return out

    def has_pixels(self, tensors: Mapping[str, Any]) -> bool:
        """Whether these inputs carry any image."""
        return self._first(tensors) is not None

    def _fitting(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"]) -> Layout:
        first = self._first(tensors) or self.pixels[0]
        pixels, batch = tensors[first], tensors["input_ids"].shape[0]
        if "image_grid_thw" in tensors:
            return AnyGrids(pixels=(first, "image_grid_thw"))
        if pixels.ndim >= 5 and pixels.shape[0] == batch:
            return RowCrops(pixels=(first, "pixel_attention_mask"))
        return Runs(pixels=(first,)) if pixels.shape[0] == len(runs(image)) else Crops(pixels=(first,))

    def _first(self, tensors: Mapping[str, Any]) -> str | None:
        given = (name for name in self.pixels if tensors.get(name) is not None)
        return next(
            (name for name in given if name.startswith(("pixel_values", "image_patches", "flattened_patches"))), None
        )
