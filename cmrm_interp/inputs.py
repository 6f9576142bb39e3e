"""Inputs: prompts that are encoded a batch at a time, and masks of their token positions."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from cmrm_interp import displays
from cmrm_interp.axes import Bool, Int, Tensor
from cmrm_interp.encoding import Batch, Encoder, GivenTokens, PaddingSide
from cmrm_interp.encoding.grids import PatchGrid, patch_grid
from cmrm_interp.errors import InputError
from cmrm_interp.images import fingerprint, load_image
from cmrm_interp.positions import Position, Source, position_mask
from cmrm_interp.prompts import Images, ImageSource, Prompt, pair


def need_inputs(given: object) -> None:
    """Refuse what is not made by `Model.prepare` or `Model.from_encoding`.

    Raises:
        InputError: always, of anything else.
    """
    if not isinstance(given, Inputs):
        raise InputError(f"inputs is a {type(given).__name__}: make it with model.prepare(prompts, images)")


class Inputs(ABC):
    """What a model is run on. Made by `Model.prepare` or `Model.from_encoding`."""

    encoder: Encoder
    padding_side: PaddingSide

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @property
    @abstractmethod
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts.

        Raises:
            InputError: the inputs were made from an encoding and have none.
        """

    @abstractmethod
    def left_padded(self) -> "Inputs":
        """The same with padding before the tokens, as generation needs it."""

    @abstractmethod
    def read(self, rows: slice) -> tuple[dict[str, Tensor], Source]:
        """Tensors of some rows, padded to the longest of them, and what can be asked of their tokens."""

    @property
    @abstractmethod
    def image_counts(self) -> Int[Tensor, " batch"]:
        """Number of images of each row (of image tokens, where the inputs were made from an encoding)."""

    @property
    def rows_with_image(self) -> Bool[Tensor, " batch"]:
        """Which rows have an image."""
        return self.image_counts > 0

    @property
    def has_images(self) -> bool:
        """Whether any row has one."""
        return bool(self.rows_with_image.any())

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of what these inputs are, by which a stored capture knows them again."""

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Tensors of all rows at once, as the model's forward takes them."""
        return self._whole.tensors

    @cached_property
    def _whole(self) -> Batch:
        return self.batch(slice(0, len(self)))

    def batches(self, n: int) -> Iterator[Batch]:
        """Batches of `n` rows (the last may be smaller), each encoded when it is asked for.

        Raises:
            InputError: `n` is not positive.
        """
        if n < 1:
            raise InputError(f"a batch of {n} rows: give at least 1")
        start = 0
        while start < len(self):
            stop = self.stop_of(start, n)
            yield self.batch(slice(start, stop))
            start = stop

    def stop_of(self, start: int, n: int) -> int:
        """Where a batch of at most `n` rows ends that begins at row `start`.

        Families that cannot mix prompts with and without images (`Encoder.mixed`) get batches of rows with
        equally many.
        """
        stop = min(start + n, len(self))
        if self.encoder.mixed:
            return stop
        counts = self.image_counts[start:stop]
        other = (counts != counts[0]).nonzero().flatten()
        return start + int(other[0]) if other.numel() else stop

    def batch(self, rows: slice) -> Batch:
        """One batch of the given rows."""
        tensors, source = self.read(rows)
        tokens = self.encoder.tokens(tensors, source, rows.start)
        return Batch(tensors, tokens, torch.arange(rows.start, rows.stop), tokens.image.any(1))

    def mask(self, position: Position) -> Bool[Tensor, "batch pos"]:
        """Which tokens of `tensors` a position means.

        Args:
            position: ``"last"``, ``"image"``, ``"text"``, ``"all"``, an int or a slice over real tokens, or any other
                position (see `cmrm_interp.positions`).

        Raises:
            HookPointError: not a position, or a row has no such token.
        """
        return position_mask(position, self._whole.tokens)

    def grid(self, prompt: int, image: int = 0) -> PatchGrid:
        """Where on an image of a prompt its tokens lie.

        Raises:
            HookPointError: no such image.
            InputError: the tokens of this family's images have no places.
        """
        tensors = self.batch(slice(prompt, prompt + 1)).tensors
        return patch_grid(self.encoder, tensors, image, self._picture(prompt, image))

    def _picture(self, prompt: int, image: int) -> ImageSource | None:
        # Encodings have none, but for what the model is given.
        return None

    def without_images(self) -> "Inputs":
        """The same prompts as text alone."""
        return self.with_images(None)

    def with_images(self, image: ImageSource | Sequence[Images] | None) -> "Inputs":
        """The same prompts with other images: one for all, one or several for each, or None for no image."""
        return PromptInputs(self.encoder, pair([p.with_image(None) for p in self.prompts], image), self.padding_side)


@dataclass(frozen=True, repr=False)
class PromptInputs(Inputs):
    """Inputs made from prompts.

    Attributes:
        encoder: of the model.
        given: the prompts.
        padding_side: where padding goes when rows have different lengths.
    """

    encoder: Encoder
    given: tuple[Prompt, ...]
    padding_side: PaddingSide = "left"

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.given)

    def __repr__(self) -> str:
        """Counts and the first text, one line."""
        images = sum(bool(prompt.images) for prompt in self.given)
        return f"Inputs({len(self)} prompts, {images} with an image; first: {self.given[0].text[:60]!r})"

    def _repr_html_(self) -> str:
        return displays.prompts(repr(self).partition("; first")[0] + ")", self.given[: displays.FEW], len(self))

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts."""
        return self.given

    def _picture(self, prompt: int, image: int) -> ImageSource | None:
        return self.given[prompt].images[image]

    def read(self, rows: slice) -> tuple[dict[str, Tensor], Source]:
        """Tensors of some prompts, and what can be asked of their tokens."""
        return self.encoder.encode(self.given[rows], self.padding_side, rows.start)

    @property
    def image_counts(self) -> Int[Tensor, " batch"]:
        """Number of images of each prompt."""
        return torch.tensor([len(prompt.images) for prompt in self.given])

    def fingerprint(self) -> str:
        """Hash of texts and images."""
        return digest(part for p in self.given for part in (p.text, _before(p), _image_key(p)))

    def left_padded(self) -> "PromptInputs":
        """The same with padding before the tokens."""
        return self if self.padding_side == "left" else replace(self, padding_side="left")


@dataclass(frozen=True, repr=False)
class EncodedInputs(Inputs):
    """Inputs made from what a processor returned, as it is.

    Attributes:
        encoder: of the model.
        encoding: the tensors.
        padding_side: worked out from the attention mask.
    """

    encoder: Encoder
    encoding: Mapping[str, Tensor]
    padding_side: PaddingSide = "left"

    @classmethod
    def of(cls, encoder: Encoder, tensors: Mapping[str, Tensor]) -> "EncodedInputs":
        """Check an encoding and find out its padding side.

        Raises:
            InputError: no ``input_ids`` of two axes, or an attention mask of another shape or with gaps.
        """
        kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        if "input_ids" not in kept or kept["input_ids"].ndim != 2 or kept["input_ids"].numel() == 0:
            raise InputError(
                f"an encoding needs input_ids of shape (batch, pos); this one has {', '.join(kept) or 'nothing'}"
            )
        mask = kept.setdefault("attention_mask", torch.ones_like(kept["input_ids"])).bool()
        if mask.shape != kept["input_ids"].shape:
            raise InputError(
                f"input_ids {tuple(kept['input_ids'].shape)} and attention_mask {tuple(mask.shape)} differ in shape"
            )
        edges = (mask[:, 1:] != mask[:, :-1]).sum(1)
        if not bool(mask.any(1).all()) or bool((edges > 1).any()):
            raise InputError("each row of the attention mask needs one unbroken run of ones, padded on one side")
        left, right = bool(mask[:, -1].all()), bool(mask[:, 0].all())
        if not left and not right:
            raise InputError("some rows are padded on the left and some on the right: pad all on one side")
        return cls(encoder, kept, "left" if left else "right")

    def __len__(self) -> int:
        """Number of rows."""
        return self.encoding["input_ids"].shape[0]

    def __repr__(self) -> str:
        """Shape, one line."""
        return f"Inputs(an encoding of shape {tuple(self.encoding['input_ids'].shape)})"

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """There are none.

        Raises:
            InputError: always.
        """
        raise InputError(
            "these inputs were made by from_encoding and have no prompts: use model.prepare(prompts, images)"
        )

    def read(self, rows: slice) -> tuple[dict[str, Tensor], Source]:
        """Some rows of the encoding, and what can be asked of their tokens."""
        tensors = self.encoder.slice_rows(self.encoding, rows)
        return tensors, GivenTokens(self.encoder, tensors)

    @property
    def image_counts(self) -> Int[Tensor, " batch"]:
        """Number of image tokens of each row."""
        return self.encoder.tokens(self.encoding).image.sum(1)

    def fingerprint(self) -> str:
        """Hash of the tensors."""
        return digest_tensors(self.encoding)

    def left_padded(self) -> "EncodedInputs":
        """The same with padding before the tokens."""
        return (
            self
            if self.padding_side == "left"
            else replace(
                self, encoding=move_padding(self.encoding, self.encoding["attention_mask"], "left"), padding_side="left"
            )
        )


def digest(parts: Iterable[str | bytes]) -> str:
    """SHA-256 of some texts and bytes, with their boundaries."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of some tensors with their names and shapes."""
    parts = ((name, str(tuple(t.shape)), _bytes(t)) for name, t in sorted(tensors.items()))
    return digest(part for triple in parts for part in triple)


def _bytes(tensor: Tensor) -> bytes:
    # numpy knows no bf16, but every dtype is bytes.
    return tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


# Which pieces of images each token sees, in Mllama.
_BY_TOKEN = ("cross_attention_mask",)


def move_padding(tensors: Mapping[str, Tensor], mask: Tensor, to: PaddingSide) -> dict[str, Tensor]:
    """Tensors padded on the one side with their padding on the other; those that are not ``batch pos`` stay.

    Args:
        tensors: by name, all padded on the side that is not `to`.
        mask: ``batch pos``, true or one at real tokens.
        to: where the padding goes.
    """
    width = mask.shape[1]
    padding = width - mask.long().sum(1, keepdim=True)
    columns = torch.arange(width, device=mask.device)
    order = (columns - padding if to == "left" else columns + padding) % width
    rows = torch.arange(len(order), device=mask.device)[:, None]
    return {n: t[rows, order] if t.shape == mask.shape or n in _BY_TOKEN else t for n, t in tensors.items()}


def _before(prompt: Prompt) -> str:
    said = [f"{turn.role}:{turn.text}" for turn in prompt.history]  # type: ignore[union-attr]
    return digest([prompt.system or "", *said]) if said else prompt.system or ""


def _image_key(prompt: Prompt) -> str:
    return ",".join(fingerprint(load_image(image, "a prompt")) for image in prompt.images)
