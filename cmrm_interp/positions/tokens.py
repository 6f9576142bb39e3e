"""What is known of the tokens in one forward pass; costly things are worked out when a position asks for them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch

from cmrm_interp.axes import Bool, Int, Tensor
from cmrm_interp.errors import HookPointError


@dataclass(frozen=True)
class Said:
    """Where the text of one turn of a conversation is.

    Attributes:
        role: ``"system"``, ``"user"`` or ``"assistant"``.
        start, stop: characters of the row's text.
        skipped: characters at the front of what was given that the chat template left out.
        length: characters of what was given.
        last: whether it is the turn that the model is to answer.
    """

    role: str
    start: int
    stop: int
    skipped: int = 0
    length: int = 0
    last: bool = False


@dataclass(frozen=True, eq=False)
class RowText:
    """One row as text, exactly as the tokenizer is given it: chat template applied, images expanded.

    Attributes:
        text: the text.
        spans: first character of each token and the one behind its last; equal where a token stands for none.
        turns: where the turns of the conversation are, or None where that is not known.
        unknown: why it is not known.
    """

    text: str
    spans: Int[Tensor, "pos 2"]
    turns: tuple[Said, ...] | None = None
    unknown: str = ""

    def over(self, start: int, stop: int) -> Bool[Tensor, " pos"]:
        """Tokens that overlap the characters from `start` to before `stop`."""
        first, last = self.spans.unbind(-1)
        return (first < stop) & (last > start) & (first < last)


class Source(ABC):
    """Where `Tokens` get what they do not hold."""

    @property
    @abstractmethod
    def ids(self) -> Int[Tensor, "batch pos"]:
        """Ids of the tokens."""

    @property
    @abstractmethod
    def numbers(self) -> Int[Tensor, "batch pos"]:
        """Which image of its row each image token belongs to, from 0; -1 at every other token."""

    @property
    @abstractmethod
    def texts(self) -> tuple[RowText, ...]:
        """The rows as text."""

    @abstractmethod
    def id_of(self, token: str) -> int:
        """Id of a token of the vocabulary."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """What is known of the tokens in one forward pass.

    Attributes:
        real: True where a token is not padding.
        image: True where a token stands for a piece of an image.
        step: 0 for the prompt; k for the pass over the k-th new token of a generation (one a row).
        source: gives `ids`, `numbers` and `texts` when they are asked for; None where there is nothing to ask.
        first: number of the first row in the whole of the inputs, for errors.
    """

    real: Bool[Tensor, "batch pos"]
    image: Bool[Tensor, "batch pos"]
    step: int = 0
    source: Source | None = None
    first: int = 0

    @property
    def generated(self) -> bool:
        """Whether these are new tokens of a generation and not the prompt."""
        return self.step > 0

    @property
    def ids(self) -> Int[Tensor, "batch pos"]:
        """Ids of the tokens (of a prompt only)."""
        return self._asked().ids

    @property
    def numbers(self) -> Int[Tensor, "batch pos"]:
        """Which image of its row each image token belongs to, from 0; -1 at every other token."""
        return self._asked().numbers.to(self.real.device)

    @property
    def texts(self) -> tuple[RowText, ...]:
        """The rows as text, with the characters that each token stands for."""
        return self._asked().texts

    def id_of(self, token: str) -> int:
        """Id of a token of the vocabulary."""
        return self._asked().id_of(token)

    def new_token(self, step: int = 1) -> "Tokens":
        """Tokens of the pass over the `step`-th new token: one real token a row."""
        if self.generated:
            return replace(self, step=step)
        real = torch.ones_like(self.real[:, :1])
        return Tokens(real, ~real, step, first=self.first)

    def repeated(self, n: int) -> "Tokens":
        """The same with each row `n` times, one after another, as generation of several answers needs it."""
        source = None if self.source is None else _Repeated(self.source, n)
        real, image = (mask.repeat_interleave(n, 0) for mask in (self.real, self.image))
        return replace(self, real=real, image=image, source=source)

    def _asked(self) -> Source:
        if self.source is None:
            what = "new tokens" if self.generated else "these tokens"
            raise HookPointError(f"ids, images and text of {what} are not known: use a position that needs none")
        return self.source


@dataclass(frozen=True, eq=False)
class _Repeated(Source):
    source: Source
    n: int

    @property
    def ids(self) -> Int[Tensor, "batch pos"]:
        """Ids of the tokens, each row repeated."""
        return self.source.ids.repeat_interleave(self.n, 0)

    @property
    def numbers(self) -> Int[Tensor, "batch pos"]:
        """Numbers of the tokens, each row repeated."""
        return self.source.numbers.repeat_interleave(self.n, 0)

    @property
    def texts(self) -> tuple[RowText, ...]:
        """Texts of the rows, each repeated."""
        return tuple(text for text in self.source.texts for _ in range(self.n))

    def id_of(self, token: str) -> int:
        """Id of a token."""
        return self.source.id_of(token)


def last_index(real: Bool[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
    """Column of the last real token of each row."""
    columns = torch.arange(real.shape[1], device=real.device)
    return torch.where(real, columns, -1).amax(1)
