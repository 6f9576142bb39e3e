"""A layout for models of no registered family: one of the known ones, by what the inputs look like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmrm_interp.axes import Bool, Tensor
from cmrm_interp.families.layouts import Crops, Facts, Grids, Layout, Picture, RowCrops, runs


@dataclass(frozen=True)
class Runs(Crops):
    """One row of pixels an image, whose tokens are an unbroken run."""

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """Runs of image tokens."""
        return [Picture(row, n) for row, n in runs(image)]


@dataclass(frozen=True)
class AnyLayout(Layout):
    """Grids, rows with an axis of crops, one row an image, or one row a crop: told by the tensors."""

    def pictures(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"], model: Facts) -> list[Picture]:
        """As the layout that fits."""
        return self._fitting(tensors, image).pictures(tensors, image, model)

    def select(self, tensors: Mapping[str, Tensor], pictures: Sequence[Picture], rows: slice) -> dict[str, Tensor]:
        """As the layout that fits."""
        ids = tensors["input_ids"]
        return self._fitting(tensors, ids != ids).select(tensors, pictures, rows)

    def has_pixels(self, tensors: Mapping[str, Any]) -> bool:
        """Whether these inputs carry any image."""
        return self._first(tensors) is not None

    def _fitting(self, tensors: Mapping[str, Tensor], image: Bool[Tensor, "batch pos"]) -> Layout:
        first = self._first(tensors) or self.pixels[0]
        names = (first, *(name for name in self.pixels if name != first and name in tensors))
        pixels, batch = tensors[first], tensors["input_ids"].shape[0]
        if "image_grid_thw" in tensors:
            return Grids(pixels=(first, "image_grid_thw"))
        if pixels.ndim >= 5 and pixels.shape[0] == batch:
            return RowCrops(pixels=names)
        return Runs(pixels=names) if pixels.shape[0] == len(runs(image)) else Crops(pixels=names)

    def _first(self, tensors: Mapping[str, Any]) -> str | None:
        given = (name for name in self.pixels if tensors.get(name) is not None)
        return next((name for name in given if name.startswith(("pixel_values", "image_patches"))), None)
