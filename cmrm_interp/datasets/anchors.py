"""Anchors of two classes: the prompts that a recipe is fitted on, harmful and harmless."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

from cmrm_interp.errors import InputError
from cmrm_interp.prompts import Images, ImageSource, Prompt, pair


@dataclass(frozen=True)
class Anchors(Sequence[Prompt]):
    """Prompts to fit on, of both classes; as a sequence, the harmful ones and then the harmless ones.

    Recipes that need no classes take them as they take any list of prompts.

    Attributes:
        harmful: requests that an aligned model refuses.
        harmless: requests that it answers.
    """

    harmful: tuple[Prompt, ...]
    harmless: tuple[Prompt, ...]

    def __init__(self, harmful: Iterable[str | Prompt], harmless: Iterable[str | Prompt]) -> None:
        """Keep both classes as prompts.

        Raises:
            InputError: one string in the place of several.
        """
        for name, given in (("harmful", harmful), ("harmless", harmless)):
            if isinstance(given, str):
                raise InputError(f"{name} is one string: give a list of prompts")
            prompts = tuple(Prompt(item) if isinstance(item, str) else item for item in given)
            object.__setattr__(self, name, prompts)

    def __len__(self) -> int:
        """Number of prompts of both classes."""
        return len(self.harmful) + len(self.harmless)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Prompt, ...]: ...
    def __getitem__(self, index: Any) -> Any:
        """A prompt, or some of them, harmful ones first."""
        return (*self.harmful, *self.harmless)[index]

    @property
    def is_harmful(self) -> tuple[bool, ...]:
        """Of each prompt, in order, whether it is of the harmful class."""
        return (True,) * len(self.harmful) + (False,) * len(self.harmless)

    def without_images(self) -> "Anchors":
        """The same requests as text alone."""
        bare = [replace(prompt, image=None) for prompt in self]
        return Anchors(bare[: len(self.harmful)], bare[len(self.harmful) :])

    def with_images(self, images: ImageSource | Sequence[Images]) -> "Anchors":
        """The same requests with images: one for all, or one for each, the harmful ones first."""
        shown = pair(list(self.without_images()), images)
        return Anchors(shown[: len(self.harmful)], shown[len(self.harmful) :])
