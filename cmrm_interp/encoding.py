"""From prompts to tensors: chat template, image processor, padding; and the rows of an encoding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from cmrm_interp.axes import Bool, Int, Tensor
from cmrm_interp.errors import ImageError, InputError, ModelError
from cmrm_interp.families.layouts import Facts, Layout, Picture
from cmrm_interp.families.maps import FamilyMap
from cmrm_interp.images import load_image
from cmrm_interp.positions import Tokens
from cmrm_interp.prompts import Prompt

PaddingSide = Literal["left", "right"]


@dataclass(frozen=True)
class Encoder:
    """How one model's prompts become tensors.

    Attributes:
        family: map of the model.
        processor: Hugging Face processor of a vision-language model, or None.
        tokenizer: its tokenizer, or None (then only ready encodings can be used).
        image_token: id of the token that stands for a piece of an image, or None.
        accepts: names of the tensors that the model's forward takes.
        config: configuration of the Hugging Face model.
    """

    family: FamilyMap
    processor: Any
    tokenizer: Any
    image_token: int | None
    accepts: frozenset[str]
    config: Any = None

    def text(self, prompt: Prompt) -> str:
        """A prompt under the chat template, ready for the tokenizer.

        Raises:
            InputError: there is no template, or the template takes no system prompt.
        """
        template = self._template()
        # Templates of text models join strings; those of vision-language models take a list of parts.
        turns = prompt.turns() if self.family.vision else [_joined(turn) for turn in prompt.turns()]
        text = self.tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        if prompt.system and prompt.system.strip() not in text:
            raise InputError("this model's chat template takes no system prompt: put it into the user text instead")
        return text

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Refuse prompts that this model cannot take, before any of them is encoded.

        Raises:
            ModelError: the model was loaded without a tokenizer.
            ImageError: images for a text-only model.
            InputError: no chat template, or one without system prompts for a system prompt.
        """
        if self.tokenizer is None:
            raise ModelError("this model was loaded without a processor: use model.from_encoding(tensors)")
        images = sum(prompt.image is not None for prompt in prompts)
        if images and self.family.vision is None:
            raise ImageError(f"{images} images for a text-only model ({self.family.name}): leave images= out")
        for prompt in {(p.system is None, p.image is None): p for p in prompts}.values():
            self.text(prompt)

    def encode(self, prompts: Sequence[Prompt], side: PaddingSide = "left", start: int = 0) -> dict[str, Tensor]:
        """Tensors of some prompts, padded to the longest.

        Args:
            prompts: with images or without, also mixed.
            side: where padding goes.
            start: number of the first prompt among all of them, for errors.

        Raises:
            ImageError: an image cannot be read.
        """
        texts = [self.text(prompt) for prompt in prompts]
        images = [load_image(p.image, f"prompt {row}") for row, p in enumerate(prompts, start) if p.image is not None]
        how = {"padding": True, "padding_side": side, "return_tensors": "pt", **self._special(texts)}
        encoded = self._call(texts, images, how)
        return {name: tensor for name, tensor in encoded.items() if name in self.accepts}

    def tokens(self, tensors: Mapping[str, Tensor]) -> Tokens:
        """Which tokens of an encoding are real, and which stand for images."""
        ids = tensors["input_ids"]
        real = tensors["attention_mask"].bool() if "attention_mask" in tensors else torch.ones_like(ids).bool()
        image = ids == self.image_token if self.image_token is not None else torch.zeros_like(real)
        return Tokens(real, image)

    def pictures(self, tensors: Mapping[str, Tensor]) -> list[Picture]:
        """The images of an encoding, in the order of its rows.

        Raises:
            InputError: the image tokens do not add up to the images.
        """
        layout = self._layout()
        if layout is None or not layout.has_pixels(tensors):
            return []
        return layout.pictures(tensors, self.tokens(tensors).image, Facts(self.config, self.token_id))

    def token_id(self, token: str) -> int | None:
        """Id of a token by its text, or None."""
        return None if self.tokenizer is None else self.tokenizer.get_vocab().get(token)

    def slice_rows(self, tensors: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
        """Some rows of an encoding, with the images that belong to them."""
        n = tensors["input_ids"].shape[0]
        start, stop, _ = rows.indices(n)
        layout = self._layout()
        if (start, stop) == (0, n):
            return dict(tensors)
        pixels = layout.pixels if layout else ()
        out = {name: tensor[start:stop] for name, tensor in tensors.items() if name not in pixels}
        if layout is None or not layout.has_pixels(tensors):
            return out
        pictures = self.pictures(tensors)
        if not any(start <= picture.row < stop and picture.tokens for picture in pictures):
            return out
        return out | layout.select(tensors, pictures, slice(start, stop))

    @property
    def pixels(self) -> tuple[str, ...]:
        """Names of the inputs that carry images."""
        layout = self._layout()
        return layout.pixels if layout else ()

    def _template(self) -> str | None:
        own = getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)
        template = own or self.family.chat_template
        if template is None:
            raise InputError("this model has no chat template: load it with chat_template='...' (Jinja)")
        return template

    def _special(self, texts: Sequence[str]) -> dict[str, bool]:
        # A template that writes the first token itself must not get a second one.
        first = self.tokenizer.bos_token
        return {"add_special_tokens": False} if first and texts[0].startswith(first) else {}

    def _call(self, texts: list[str], images: list[Any], how: dict[str, Any]) -> Mapping[str, Tensor]:
        if self.processor is None:
            return self.tokenizer(texts, **how)
        return self.processor(text=texts, images=images or None, **how)

    def _layout(self) -> Layout | None:
        return self.family.vision.layout if self.family.vision else None


@dataclass(frozen=True)
class Batch:
    """Some rows of the inputs, encoded.

    Attributes:
        tensors: what the model is called with.
        tokens: real and image tokens.
        rows: index of each row in the whole of the inputs.
        has_image: whether each row has an image.
    """

    tensors: dict[str, Tensor]
    tokens: Tokens
    rows: Int[Tensor, " batch"]
    has_image: Bool[Tensor, " batch"]


def _joined(turn: dict[str, Any]) -> dict[str, Any]:
    return {**turn, "content": "".join(part.get("text", "") for part in turn["content"])}
