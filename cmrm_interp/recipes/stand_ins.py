"""Meaningless images in the place of prompts' own."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from cmrm_interp.errors import ImageError
from cmrm_interp.images import MAKERS, ImageSource, load_image, meaningless
from cmrm_interp.prompts import Images, Prompt

# Where a prompt has no image of its own, the meaningless one has the size that LLaVA-1.5 sees.
NATIVE = (336, 336)


def check_image(image: str | ImageSource) -> None:
    """Refuse what is no kind of meaningless image, no file and no picture.

    Raises:
        InputError: there is no such kind.
    """
    if isinstance(image, str) and image not in MAKERS and not Path(image).exists():
        meaningless(image, Image.new("RGB", (8, 8)))


def stand_ins(prompts: Sequence[Prompt], image: str | ImageSource = "blank", seed: int = 0) -> list[Images]:
    """Meaningless images for prompts, as many and as large as their own; one where a prompt has none.

    Args:
        prompts: with images or without.
        image: a name of `cmrm_interp.images`, or the image itself.
        seed: of random kinds; each prompt's is one further on.

    Raises:
        ImageError: a kind that is made from the prompt's own image, and a prompt has none.
    """
    made = [[_one(row, own, image, seed) for own in prompt.images or (None,)] for row, prompt in enumerate(prompts)]
    return [mine[0] if len(mine) == 1 else mine for mine in made]


def _one(row: int, own: ImageSource | None, image: str | ImageSource, seed: int) -> ImageSource:
    if not isinstance(image, str) or image not in MAKERS:
        return image
    if own is None and image in ("blur", "shuffle"):
        raise ImageError(f"image={image!r} is made from the prompt's own image, and prompt {row} has none")
    like = Image.new("RGB", NATIVE) if own is None else load_image(own, f"prompt {row}")
    return meaningless(image, like, seed + row)
