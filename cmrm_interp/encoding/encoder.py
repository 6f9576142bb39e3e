"""From prompts to tensors: chat template, image processor, padding; and the rows of an encoding."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from cmrm_interp.axes import Bool, Int, Tensor
from cmrm_interp.encoding.continued import KINDS
from cmrm_interp.encoding.reading import PromptTokens, Written, number_images
from cmrm_interp.errors import ImageError, InputError, ModelError
from cmrm_interp.families.layouts import Facts, Layout, Picture
from cmrm_interp.families.maps import FamilyMap
from cmrm_interp.images import load_image
from cmrm_interp.positions import Source, Tokens
from cmrm_interp.prompts import Prompt

PaddingSide = Literal["left", "right"]
# A fast tokenizer holds how it pads, and processors set that anew for each part of a prompt; models may share one.
_TOKENIZING = threading.Lock()


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
            InputError: there is no template, or the template takes no system prompt or no earlier turns.
        """
        text = self.render(prompt.turns())
        if prompt.system and prompt.system.strip() not in text:
            raise InputError("this model's chat template takes no system prompt: put it into the user text instead")
        for turn in prompt.history:
            if turn.text.strip() not in text:  # type: ignore[union-attr]
                raise InputError("this model's chat template takes no earlier turns: leave history= out")
        return text

    def render(self, turns: Sequence[dict[str, Any]], to_answer: bool = True) -> str:
        """Chat turns (see `Prompt.turns`) under the chat template.

        Args:
            turns: of user, assistant and system.
            to_answer: whether the text ends where an answer begins; else it ends after the last turn.

        Raises:
            InputError: there is no template, or it refuses these turns.
        """
        from jinja2 import TemplateError

        template = self._template()
        # Templates of text models join strings; those of vision-language models take a list of parts.
        given = list(turns) if self.family.vision else [_joined(turn) for turn in turns]
        try:
            return self.tokenizer.apply_chat_template(
                given, chat_template=template, tokenize=False, add_generation_prompt=to_answer
            )
        except TemplateError as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise InputError(f"this model's chat template refuses these turns ({roles}): {error}") from error

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Refuse prompts that this model cannot take, before any of them is encoded.

        Raises:
            ModelError: the model was loaded without a tokenizer.
            ImageError: images for a text-only model, or more than it can see in one prompt.
            InputError: no chat template, or one without system prompts for a system prompt, or the mark of an image
                in a text.
        """
        if self.tokenizer is None:
            raise ModelError("this model was loaded without a processor: use model.from_encoding(tensors)")
        images = sum(len(prompt.images) for prompt in prompts)
        if images and self.family.vision is None:
            raise ImageError(f"{images} images for a text-only model ({self.family.name}): leave images= out")
        if images and self.processor is None:
            raise ImageError(
                f"{images} images, but the model was loaded with a tokenizer alone: load it with its processor"
            )
        for row, prompt in enumerate(prompts):
            # Their processors give a second image to the next prompt, without a word.
            if len(prompt.images) > 1 and self._queries:
                raise ImageError(f"prompt {row} has {len(prompt.images)} images: {self.family.name} takes one a prompt")
        self._refuse_marks(prompts)
        for prompt in {(p.system is None, not p.images, len(p.history)): p for p in prompts}.values():
            self.text(prompt)

    def _refuse_marks(self, prompts: Sequence[Prompt]) -> None:
        if not self.can_see:
            return
        # Gemma's processor puts its images where the second of them stands.
        own = [getattr(self.processor, name, None) for name in ("image_token", "boi_token")]
        own += [self.tokenizer.convert_ids_to_tokens(self.image_token)] if self.image_token is not None else []
        marks = {str(mark) for mark in own if mark}
        for row, prompt in enumerate(prompts):
            for mark in marks:
                if mark in prompt.text:
                    raise InputError(
                        f"prompt {row} contains {mark!r}, by which this model's processor marks an image: leave it out"
                        " of the text; each picture of images= gets its own"
                    )

    def encode(
        self, prompts: Sequence[Prompt], side: PaddingSide = "left", start: int = 0
    ) -> tuple[dict[str, Tensor], Source]:
        """Tensors of some prompts, padded to the longest, and what can be asked of their tokens.

        Args:
            prompts: with images or without, also mixed where the family can.
            side: where padding goes.
            start: number of the first prompt among all of them, for errors.

        Raises:
            ImageError: an image cannot be read.
            InputError: prompts with different numbers of images, where the family cannot mix them.
        """
        return self.encode_texts([self.text(prompt) for prompt in prompts], prompts, side, start)

    def encode_texts(
        self, texts: Sequence[str], prompts: Sequence[Prompt], side: PaddingSide = "left", start: int = 0
    ) -> tuple[dict[str, Tensor], Source]:
        """As `encode`, but for texts that are under the chat template already, and more than the prompts perhaps.

        Args:
            texts: one a prompt, which they begin with.
            prompts: whose images they show.
            side: where padding goes.
            start: number of the first prompt among all of them, for errors.

        Raises:
            ImageError, InputError: as `encode`.
        """
        self._check_mix(prompts)
        written = Written(list(texts))
        images = [
            [load_image(image, f"prompt {row}") for image in prompt.images] for row, prompt in enumerate(prompts, start)
        ]
        with _TOKENIZING:
            encoded = self._call(written, images, side)
        tensors = {name: tensor for name, tensor in encoded.items() if name in self.accepts}
        return tensors, PromptTokens(self, tensors, prompts, written)

    def tokens(self, tensors: Mapping[str, Tensor], source: Source | None = None, first: int = 0) -> Tokens:
        """Which tokens of an encoding are real, and which stand for images.

        Args:
            tensors: the encoding.
            source: what can be asked of the tokens beyond that.
            first: number of the first row among all of them, for errors.
        """
        ids = tensors["input_ids"]
        real = tensors["attention_mask"].bool() if "attention_mask" in tensors else torch.ones_like(ids).bool()
        image = ids == self.image_token if self.image_token is not None else torch.zeros_like(real)
        return Tokens(real, image & real, source=source, first=first)

    def pictures(self, tensors: Mapping[str, Tensor]) -> list[Picture]:
        """The images of an encoding, in the order of its rows; none where it carries no pixels.

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

    def image_numbers(self, tensors: Mapping[str, Tensor]) -> Int[Tensor, "batch pos"]:
        """Which image of its row each image token belongs to, from 0; -1 at every other token.

        Raises:
            InputError: the image tokens do not add up to the images.
        """
        sizes: list[list[int]] = [[] for _ in range(tensors["input_ids"].shape[0])]
        for picture in self.pictures(tensors):
            sizes[picture.row].append(picture.tokens)
        return number_images(self.tokens(tensors).image, sizes)

    def slice_rows(self, tensors: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
        """Some rows of an encoding, with the images that belong to them."""
        n = tensors["input_ids"].shape[0]
        start, stop, _ = rows.indices(n)
        layout = self._layout()
        if (start, stop) == (0, n):
            return dict(tensors)
        out = {name: tensor[start:stop] for name, tensor in tensors.items() if name not in self.pixels}
        if layout is None or not layout.has_pixels(tensors):
            return out
        pictures = self.pictures(tensors)
        if not any(start <= picture.row < stop and picture.tokens for picture in pictures):
            return out
        return out | layout.select(tensors, pictures, slice(start, stop))

    @property
    def can_see(self) -> bool:
        """Whether it can make an encoding with an image."""
        template = self.processor is not None and (self.processor.chat_template or self.tokenizer.chat_template)
        return self.family.vision is not None and bool(template or (self.processor and self.family.chat_template))

    @property
    def pixels(self) -> tuple[str, ...]:
        """Names of the inputs that carry images."""
        layout = self._layout()
        return layout.pixels if layout else ()

    def special(self, texts: Sequence[str]) -> dict[str, bool]:
        """Arguments of the tokenizer for texts of this model's template."""
        # A template that writes the first token itself must not get a second one.
        first = self.tokenizer.bos_token
        return {"add_special_tokens": False} if first and texts[0].startswith(first) else {}

    @property
    def mixed(self) -> bool:
        """Whether prompts with different numbers of images can share a batch."""
        return self.family.vision is None or self.family.vision.mixed

    @property
    def _queries(self) -> bool:
        return self.family.vision is not None and self.family.vision.qformer is not None

    def _check_mix(self, prompts: Sequence[Prompt]) -> None:
        counts = sorted({len(prompt.images) for prompt in prompts})
        if len(counts) > 1 and not self.mixed:
            raise InputError(
                f"{self.family.name} takes no batch of prompts with {' and '.join(map(str, counts))} images: prepare"
                " them apart (logits, generate and capture batch them apart by themselves)"
            )

    def _template(self) -> str | None:
        own = getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)
        template = own or self.family.chat_template
        if template is None:
            raise InputError("this model has no chat template: load it with chat_template='...' (Jinja)")
        return template

    def _call(self, written: Written, images: list[list[Any]], side: PaddingSide) -> Mapping[str, Tensor]:
        texts, vision = written.rendered, self.family.vision
        # Q-Formers count the padding of their own tokens, which the processor would pad on the same side.
        first: PaddingSide = "right" if self._queries else side
        how = {"padding": True, "padding_side": first, "return_tensors": "pt", **self.special(texts)}
        if vision is None or not any(images):
            return self._untyped(self.tokenizer(texts, **{**how, "padding_side": side}))
        pictures = images if vision.nested else [image for mine in images for image in mine]
        encoded = dict(written.record(self.processor)(text=list(texts), images=pictures, **how))
        return encoded if first == side else _left(encoded)

    def _untyped(self, encoded: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Vision-language models are told the kind of each token, of which text is 0.
        kinds = [name for name in KINDS if name in self.accepts and self.family.vision]
        return {**encoded, **{name: torch.zeros_like(encoded["input_ids"]) for name in kinds}}

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


def _left(encoded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    mask = encoded["attention_mask"]
    order = mask.argsort(dim=1, stable=True)
    return {n: t.gather(1, order) if n in ("input_ids", "attention_mask") else t for n, t in encoded.items()}
