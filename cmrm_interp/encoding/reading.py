"""From tokens back to text: which characters of the prompts each token stands for."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from cmrm_interp.axes import Bool, Int, Tensor
from cmrm_interp.encoding.turns import find_turns
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.positions import RowText, Said, Source
from cmrm_interp.prompts import Prompt

if TYPE_CHECKING:
    from cmrm_interp.encoding.encoder import Encoder


@dataclass
class Written:
    """What became of the texts of some prompts on their way through the processor.

    Attributes:
        rendered: by the chat template.
        before: as the processor has them before it expands images.
        swaps: for each row, what it put in place of each image: ``span`` before, ``new_span`` after.
        seen: as the tokenizer is given them.
    """

    rendered: list[str]
    before: list[str] = field(default_factory=list)
    swaps: list[list[dict[str, Any]]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def record(self, processor: Any) -> Any:
        """A copy of a processor that writes down here how it expands images."""
        expand = getattr(processor, "get_text_with_replacements", None)
        if expand is None:
            return processor
        recorder = copy(processor)

        def _expand(text: list[str], *args: Any, **kwargs: Any) -> tuple[list[str], list[list[dict[str, Any]]]]:
            self.before = list(text)
            seen, self.swaps = expand(text, *args, **kwargs)
            self.seen = list(seen)
            return seen, self.swaps

        recorder.get_text_with_replacements = _expand
        return recorder

    def text(self, row: int) -> str:
        """The text of a row as the tokenizer is given it."""
        return self.seen[row] if self.swaps else self.rendered[row]

    def moved(self, row: int, said: Said) -> Said | None:
        """A turn of the rendered text in the text that the tokenizer is given, None if it is not there."""
        if not self.swaps:
            return said
        start, stop = said.start, said.stop
        if self.before[row] != self.rendered[row]:
            place = _place(self.rendered[row], self.before[row], start, stop)
            if place is None:
                return None
            start, stop = place, place + stop - start
        gained = [sum(_growth(swap) for swap in self.swaps[row] if swap["span"][1] <= end) for end in (start, stop)]
        return replace(said, start=start + gained[0], stop=stop + gained[1])


@dataclass(frozen=True, eq=False)
class GivenTokens(Source):
    """Tokens of an encoding that was given as it is: their text is what they decode to.

    Attributes:
        encoder: of the model.
        tensors: the encoding.
    """

    encoder: "Encoder"
    tensors: Mapping[str, Tensor]

    @property
    def ids(self) -> Int[Tensor, "batch pos"]:
        """Ids of the tokens."""
        return self.tensors["input_ids"]

    @cached_property
    def numbers(self) -> Int[Tensor, "batch pos"]:
        """Numbers of the images."""
        return self.encoder.image_numbers(self.tensors)

    @cached_property
    def texts(self) -> tuple[RowText, ...]:
        """The rows as their tokens decode."""
        why = "these inputs were made by from_encoding and are tokens alone: use model.prepare(prompts, images)"
        real = self.encoder.tokens(self.tensors).real.cpu()
        return tuple(
            _spread(*_decoded(self._tokenizer, ids[mask].tolist()), mask, why)
            for ids, mask in zip(self.ids.cpu(), real, strict=True)
        )

    def id_of(self, token: str) -> int:
        """Id of a token of the vocabulary.

        Raises:
            HookPointError: there is no such token.
        """
        found = self._tokenizer.convert_tokens_to_ids(token)
        if found is None or self._tokenizer.convert_ids_to_tokens(found) != token:
            raise HookPointError(f"the vocabulary has no token {token!r}: look with model.tokenizer.tokenize(text)")
        return found

    @property
    def _tokenizer(self) -> Any:
        if self.encoder.tokenizer is None:
            raise ModelError("this model was loaded without a tokenizer: positions that look at text need one")
        return self.encoder.tokenizer


@dataclass(frozen=True, eq=False)
class PromptTokens(GivenTokens):
    """Tokens of prompts, with the characters that they stand for.

    Attributes:
        encoder: of the model.
        tensors: the prompts, encoded.
        prompts: one a row.
        written: their texts.
    """

    prompts: Sequence[Prompt] = ()
    written: Written = field(default_factory=lambda: Written([]))

    @cached_property
    def numbers(self) -> Int[Tensor, "batch pos"]:
        """Numbers of the images, as the processor put them in."""
        image = self.encoder.tokens(self.tensors).image
        name = self._tokenizer.convert_ids_to_tokens(self.encoder.image_token or 0)
        sizes = [[swap["replacement"].count(name) for swap in swaps] for swaps in self.written.swaps]
        # Where the processor tells nothing, the tensors do.
        known = [sum(mine) for mine in sizes] == image.sum(1).tolist()
        return number_images(image, sizes) if known else super().numbers

    @cached_property
    def texts(self) -> tuple[RowText, ...]:
        """The rows as the tokenizer is given them.

        Raises:
            ModelError: the tokenizer does not tell characters, or the processor makes other tokens of its own.
        """
        if not getattr(self._tokenizer, "is_fast", False):
            raise ModelError("positions that look at text need a fast tokenizer, which tells each token's characters")
        texts = [self.written.text(row) for row in range(len(self.prompts))]
        again = self._tokenizer(texts, return_offsets_mapping=True, **self.encoder.special(self.written.rendered))
        tokens = self.encoder.tokens(self.tensors)
        rows = zip(again["input_ids"], again["offset_mapping"], self.ids.cpu(), tokens.real.cpu(), strict=True)
        return tuple(self._row(row, texts[row], *known) for row, known in enumerate(rows))

    def _row(self, row: int, text: str, ids: list[int], spans: list[Any], have: Tensor, real: Tensor) -> RowText:
        image, mine = self.encoder.image_token, have[real].tolist()
        if ids != mine:
            # Some processors (BLIP-2) put tokens of images in front that no text stands for.
            others = [span for i, span in zip(ids, spans, strict=True) if i != image]
            if [i for i in ids if i != image] != [i for i in mine if i != image]:
                raise ModelError(
                    f"{type(self.encoder.processor).__name__} makes other tokens of a prompt than its tokenizer does:"
                    " positions that look at text cannot be used"
                )
            rest = iter(others)
            spans = [(0, 0) if i == image else next(rest) for i in mine]
        turns = self._turns(row)
        why = "this model's chat template rewrites what is said, so that turns cannot be told apart"
        return _spread(text, spans, real, why, turns or None)

    def _turns(self, row: int) -> tuple[Said, ...]:
        turns, rendered = self.prompts[row].turns(), self.written.rendered[row]
        found = [self.written.moved(row, said) for said in find_turns(self.encoder.render, turns, rendered)]
        return tuple(said for said in found if said is not None)


def number_images(image: Bool[Tensor, "batch pos"], sizes: Sequence[Sequence[int]]) -> Int[Tensor, "batch pos"]:
    """Which image of its row each image token belongs to, from 0; -1 at every other token.

    Args:
        image: true at image tokens.
        sizes: for each row, how many image tokens each of its images has; 0 for an image that is none.

    Raises:
        InputError: they do not add up.
    """
    numbers = torch.full(image.shape, -1, device=image.device)
    for row in image.any(1).nonzero().flatten().tolist():
        mine = [size for size in sizes[row] if size]
        if sum(mine) != int(image[row].sum()):
            raise InputError(f"row {row}: its image tokens do not match the images of this encoding")
        order = torch.arange(len(mine)).repeat_interleave(torch.tensor(mine))
        numbers[row, image[row]] = order.to(numbers)
    return numbers


def _decoded(tokenizer: Any, ids: list[int]) -> tuple[str, list[tuple[int, int]]]:
    # A token's text depends on the one before it (a space in front), and on no other.
    text, spans = "", []
    for before, i in zip([None, *ids], ids, strict=False):
        known = "" if before is None else tokenizer.decode([before])
        piece = tokenizer.decode([i] if before is None else [before, i])[len(known) :]
        spans.append((len(text), len(text) + len(piece)))
        text += piece
    return text, spans


def _spread(
    text: str, spans: Sequence[Any], real: Bool[Tensor, " pos"], why: str, turns: tuple[Said, ...] | None = None
) -> RowText:
    places = torch.zeros(len(real), 2, dtype=torch.long)
    places[real] = torch.tensor(spans, dtype=torch.long).reshape(-1, 2)
    return RowText(text, places, turns, why)


def _growth(swap: Mapping[str, Any]) -> int:
    return (swap["new_span"][1] - swap["new_span"][0]) - (swap["span"][1] - swap["span"][0])


def _place(old: str, new: str, start: int, stop: int) -> int | None:
    # PaliGemma writes its first token and a line end into the text; what is said is not changed.
    for a, b, n in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        if a <= start and stop <= a + n:
            return b + start - a
    return None
