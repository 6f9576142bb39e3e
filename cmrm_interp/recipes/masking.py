"""Images of which most is painted over, and vision towers that see every image as equally many tokens."""

import numpy as np
from PIL import Image

from cmrm_interp.hooks import matches
from cmrm_interp.images import blank
from cmrm_interp.model import Model

TOWER = "vision.blocks.*.hook_resid_pre"
# Runs of the tower alone need some text beside the image.
ASKED = "what is this ?"
# An image's sizes by which towers are told apart that see more of larger images: width x height in pixels.
SIZES = ((64, 64), (640, 320))


def masked_copy(picture: Image.Image, cells: int, share: float, rng: np.random.Generator) -> Image.Image:
    """An image of which some cells of a square grid are painted over with its mean colour.

    Args:
        picture: the image.
        cells: along each side.
        share: of the cells that are painted, rounded down, as in the released code.
        rng: which.
    """
    pixels = np.asarray(picture.convert("RGB")).copy()
    colour = pixels.mean((0, 1)).round().astype(np.uint8)
    ends = [np.linspace(0, size, cells + 1).round().astype(int) for size in pixels.shape[:2]]
    for cell in rng.permutation(cells**2)[: int(share * cells**2)]:
        row, column = divmod(int(cell), cells)
        pixels[ends[0][row] : ends[0][row + 1], ends[1][column] : ends[1][column + 1]] = colour
    return Image.fromarray(pixels)


def fixed_tokens(model: Model) -> int:
    """Tokens of every image in the vision tower, where each has one row of equally many; 0 where that is not so."""
    seen = matches(TOWER, tuple(model.hook_points))
    if not seen:
        return 0
    mask = model.capture(model.prepare([ASKED] * len(SIZES), [blank(size) for size in SIZES]), seen[0]).mask_of(seen[0])
    return int(mask.shape[1]) if mask is not None and mask.shape[0] == len(SIZES) and bool(mask.all()) else 0
