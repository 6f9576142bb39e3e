"""Prompts: a user's text, perhaps images, a system prompt, earlier turns; and pairing texts with images."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from cmrm_interp.errors import ImageError, InputError
from cmrm_interp.images import ImageSource

Images = ImageSource | Sequence[ImageSource] | None
"""Images of one prompt: one, several, or none."""

ROLES = ("user", "assistant")
_ONE = (Image.Image, str, os.PathLike, np.ndarray)


@dataclass(frozen=True)
class Turn:
    """An earlier turn of a conversation.

    Attributes:
        role: ``"user"`` or ``"assistant"``.
        text: what was said.
    """

    role: str
    text: str


@dataclass(frozen=True)
class Prompt:
    """One user turn, before any chat template, and what was said before it.

    Attributes:
        text: what the user writes.
        image: a PIL image, the path of a file, or an array of height x width x 3; a sequence of several, which
            come before the text in this order; None for none.
        system: the system prompt, or None.
        history: earlier turns, first to last, as `Turn` or ``(role, text)``.
    """

    text: str
    image: Images = None
    system: str | None = None
    history: Sequence[Turn | tuple[str, str]] = ()

    def __post_init__(self) -> None:
        """Keep images and history as they are now.

        Raises:
            InputError: an earlier turn that is none.
        """
        if self.image is not None and not isinstance(self.image, _ONE):
            several = tuple(self.image)
            object.__setattr__(self, "image", several if len(several) > 1 else several[0] if several else None)
        object.__setattr__(self, "history", tuple(_earlier(turn) for turn in self.history))

    @property
    def images(self) -> tuple[ImageSource, ...]:
        """All images, in the order given."""
        if self.image is None:
            return ()
        return (self.image,) if isinstance(self.image, _ONE) else tuple(self.image)

    def turns(self) -> list[dict[str, Any]]:
        """Chat turns as Hugging Face chat templates take them; an image becomes a placeholder."""
        before = [("system", self.system)] if self.system is not None else []
        earlier = [(turn.role, turn.text) for turn in self.history]  # type: ignore[union-attr]
        content = [{"type": "image"} for _ in self.images] + [{"type": "text", "text": self.text}]
        said = [_turn(role, [{"type": "text", "text": text}]) for role, text in (*before, *earlier)]
        return [*said, _turn("user", content)]

    def with_image(self, image: Images) -> "Prompt":
        """The same prompt with another image or several, or with None for no image."""
        return replace(self, image=image)


def pair(
    prompts: str | Prompt | Sequence[str | Prompt],
    images: ImageSource | Sequence[Images] | None = None,
    system: str | None = None,
) -> tuple[Prompt, ...]:
    """Prompts paired with images: one image for all, or one or several for each, or none.

    Args:
        prompts: texts or `Prompt` objects; one alone is a list of one.
        images: None, one image for every prompt, or a list with an image, a list of images or None for each.
        system: system prompt of the prompts that bring none of their own.

    Raises:
        InputError: no prompts, or an entry that is neither text nor `Prompt`.
        ImageError: another number of images than of prompts, or an image given twice.
    """
    if not isinstance(prompts, Prompt | Iterable):
        raise InputError(f"prompts is a {type(prompts).__name__}: give texts or Prompts, one or a list of them")
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


def _join(row: int, item: str | Prompt, picture: Images, system: str | None) -> Prompt:
    prompt = Prompt(item) if isinstance(item, str) else item
    if picture is not None and prompt.image is not None:
        raise ImageError(f"prompt {row} has an image of its own: leave out images=, or use a text")
    prompt = prompt if picture is None else prompt.with_image(picture)
    return prompt if prompt.system is not None or system is None else replace(prompt, system=system)


def _spread(images: ImageSource | Sequence[Images] | None, n: int) -> Sequence[Images]:
    if images is None or isinstance(images, _ONE):
        return [images] * n
    if len(images) != n:
        raise ImageError(
            f"{len(images)} images for {n} prompts: give one image for all, or one (or None) for each prompt;"
            " several for one prompt are a list in that list, [[a, b]]"
        )
    return images


def _earlier(turn: Turn | tuple[str, str]) -> Turn:
    if not isinstance(turn, Turn):
        if isinstance(turn, str) or len(turn) != 2:
            raise InputError(f"an earlier turn is Turn(role, text) or (role, text), not {turn!r}")
        turn = Turn(*turn)
    if turn.role not in ROLES:
        raise InputError(
            f"an earlier turn is by user or assistant, not {turn.role!r}; use system= for the system prompt"
        )
    return turn


def _turn(role: str, content: list[dict[str, str]]) -> dict[str, Any]:
    return {"role": role, "content": content}
