"""Prompts: a user's text, perhaps an image, perhaps a system prompt; and pairing texts with images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from cmrm_interp.errors import ImageError, InputError
from cmrm_interp.images import ImageSource


@dataclass(frozen=True)
class Prompt:
    """One user turn, before any chat template.

    Attributes:
        text: what the user writes.
        image: a PIL image, the path of a file, or an array of height x width x 3; None for none.
        system: the system prompt, or None.
    """

    text: str
    image: ImageSource | None = None
    system: str | None = None

    def turns(self) -> list[dict[str, Any]]:
        """Chat turns as Hugging Face chat templates take them; an image becomes a placeholder."""
        content: list[dict[str, str]] = [] if self.image is None else [{"type": "image"}]
        content.append({"type": "text", "text": self.text})
        system = [] if self.system is None else [_turn("system", [{"type": "text", "text": self.system}])]
        return [*system, _turn("user", content)]

    def with_image(self, image: ImageSource | None) -> "Prompt":
        """The same prompt with another image, or with None for no image."""
        return replace(self, image=image)


def pair(
    prompts: str | Prompt | Sequence[str | Prompt],
    images: ImageSource | Sequence[ImageSource | None] | None = None,
    system: str | None = None,
) -> tuple[Prompt, ...]:
    """Prompts paired with images: one image for all, or one for each, or none.

    Args:
        prompts: texts or `Prompt` objects; one alone is a list of one.
        images: None, one image for every prompt, or a list with an image or None for each.
        system: system prompt of the prompts that bring none of their own.

    Raises:
        InputError: no prompts, or an entry that is neither text nor `Prompt`.
        ImageError: another number of images than of prompts, or an image given twice.
    """
    items = [prompts] if isinstance(prompts, str | Prompt) else list(prompts)
    if not items:
        raise InputError("the list of prompts is empty: give at least one")
    for row, item in enumerate(items):
        if not isinstance(item, str | Prompt):
            raise InputError(f"prompt {row} is a {type(item).__name__}: give a str or a Prompt")
    pictures = _spread(images, len(items))
    return tuple(
        _join(row, item, picture, system) for row, (item, picture) in enumerate(zip(items, pictures, strict=True))
    )


def _join(row: int, item: str | Prompt, picture: ImageSource | None, system: str | None) -> Prompt:
    prompt = Prompt(item) if isinstance(item, str) else item
    if picture is not None and prompt.image is not None:
        raise ImageError(f"prompt {row} has an image of its own: leave out images=, or use a text")
    prompt = prompt if picture is None else prompt.with_image(picture)
    return prompt if prompt.system is not None or system is None else replace(prompt, system=system)


def _spread(images: ImageSource | Sequence[ImageSource | None] | None, n: int) -> Sequence[ImageSource | None]:
    if images is None or isinstance(images, Image.Image | str | os.PathLike | np.ndarray):
        return [images] * n
    if len(images) != n:
        raise ImageError(
            f"{len(images)} images for {n} prompts: give one image for all, or one (or None) for each prompt"
        )
    return images


def _turn(role: str, content: list[dict[str, str]]) -> dict[str, Any]:
    return {"role": role, "content": content}
