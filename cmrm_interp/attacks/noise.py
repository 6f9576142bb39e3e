"""Random changes of pixels of a bounded size: what an attack of that size has to be stronger than."""

import numpy as np
from PIL import Image

from cmrm_interp.errors import InputError
from cmrm_interp.images import ImageSource, load_image


def perturbed(image: ImageSource, epsilon: float = 16 / 255, seed: int = 0) -> Image.Image:
    """An image with each value moved by chance, uniformly between ``-epsilon`` and ``epsilon``, kept in range.

    Args:
        image: the image.
        epsilon: how far, where black is 0 and white is 1; no value goes further, rounding to 8 bits included.
        seed: of the draw.

    Raises:
        InputError: a size below 0 or above 1.
    """
    if not 0 <= epsilon <= 1:
        raise InputError(f"epsilon is {epsilon}: give a number from 0 to 1 (16 steps of a picture: 16/255)")
    reach = int(np.floor(epsilon * 255 + 1e-3))
    pixels = np.asarray(load_image(image)).astype(int)
    moved = pixels + np.random.default_rng(seed).integers(-reach, reach + 1, pixels.shape)
    return Image.fromarray(moved.clip(0, 255).astype(np.uint8))
