"""The kinds of positions: by name, image, number, text, character, step, token, and any function."""

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch

from cmrm_interp.axes import Bool, Int, Tensor
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.positions.base import Selector
from cmrm_interp.positions.tokens import RowText, Said, Tokens, last_index

ROLES = ("system", "user", "assistant")
NAMED = ("last", "all", "first", "prompt", "image", "text", *ROLES, "generated", "padding")
_GOES_ON = ("last", "all", "assistant", "generated")
_SHOWN = 80


@dataclass(frozen=True, repr=False)
class Named(Selector):
    """Tokens by what they are; see the table of `cmrm_interp.positions`.

    Attributes:
        name: one of `NAMED`.
    """

    name: str

    def __repr__(self) -> str:
        """The expression that makes it."""
        return f"at({self.name!r})"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """Tokens of that name."""
        if tokens.generated:
            return tokens.real & (self.name in _GOES_ON)
        if self.name in ROLES:
            return _said(tokens, self.name)
        if self.name in ("last", "first"):
            columns = torch.arange(tokens.real.shape[1], device=tokens.real.device)
            wanted = last_index(tokens.real) if self.name == "last" else tokens.real.int().argmax(1)
            return columns == wanted[:, None]
        if self.name == "padding":
            return ~tokens.real
        if self.name in ("image", "text"):
            return tokens.real & (tokens.image if self.name == "image" else ~tokens.image)
        return tokens.real if self.name in ("all", "prompt") else torch.zeros_like(tokens.real)

    @property
    def in_prompt(self) -> bool:
        """False for new tokens."""
        return self.name != "generated"

    @property
    def single(self) -> bool:
        """True for the ends of a prompt."""
        return self.name in ("last", "first")


@dataclass(frozen=True, repr=False)
class OneImage(Selector):
    """Tokens of one image of each prompt.

    Attributes:
        number: from 0; negative numbers count from the last image of the row.
        optional: whether rows with fewer images are left alone. Rows without any always are.
    """

    number: int
    optional: bool = False

    def __repr__(self) -> str:
        """The expression that makes it."""
        return f"at('image', {self.number}{_optional(self)})"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """Tokens of the image."""
        if tokens.generated:
            return torch.zeros_like(tokens.real)
        numbers = tokens.numbers
        have = numbers.amax(1, keepdim=True) + 1
        wanted = self.number if self.number >= 0 else have + self.number
        missing = ((have <= wanted) | (have + self.number < 0)) & (have > 0)
        if bool(missing.any()) and not self.optional:
            row = int(missing.flatten().nonzero()[0])
            raise HookPointError(
                f"no image {self.number} in row {tokens.first + row}: it has {int(have[row])} (0-{int(have[row]) - 1});"
                f" at('image', {self.number}, optional=True) leaves such rows alone"
            )
        return (numbers >= 0) & (numbers == wanted)


@dataclass(frozen=True, repr=False)
class Index(Selector):
    """One token of each prompt, counted over real tokens.

    Attributes:
        number: from 0; negative numbers count from the last token.
        optional: whether rows that are too short are left alone.
    """

    number: int
    optional: bool = False

    def __repr__(self) -> str:
        """The expression that makes it."""
        return f"at({self.number}{_optional(self)})"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """The token of that number."""
        if tokens.generated:
            return torch.zeros_like(tokens.real)
        order, length = _counted(tokens)
        shortest = int(length.min())
        if not self.optional and not -shortest <= self.number < shortest:
            row = tokens.first + int(length.argmin())
            raise HookPointError(f"no position {self.number}: row {row} has {shortest} tokens (0-{shortest - 1})")
        return tokens.real & (order == (self.number if self.number >= 0 else length + self.number))

    @property
    def single(self) -> bool:
        """True unless rows may be left out."""
        return not self.optional


@dataclass(frozen=True, repr=False)
class Stretch(Selector):
    """Tokens in a row, counted over real tokens of the prompt as a Python slice does.

    Attributes:
        start, stop: bounds; None for the end of the prompt.
    """

    start: int | None = None
    stop: int | None = None

    def __repr__(self) -> str:
        """The expression that makes it."""
        return f"at(slice({self.start}, {self.stop}))"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """Tokens between the bounds."""
        if tokens.generated:
            return torch.zeros_like(tokens.real)
        order, length = _counted(tokens)
        start = _bound(self.start, length, torch.zeros_like(length))
        return tokens.real & (order >= start) & (order < _bound(self.stop, length, length))


@dataclass(frozen=True, repr=False)
class Find(Selector):
    """Tokens that overlap some words of the prompt, wherever they stand.

    Attributes:
        pattern: what is looked for, in the text as the model sees it.
        flags: of the regular expression; None for words that are no regular expression.
        optional: whether rows without it are left alone.
    """

    pattern: str
    flags: int | None = None
    optional: bool = False

    def __repr__(self) -> str:
        """The expression that makes it."""
        what = repr(self.pattern) if self.flags is None else f"re.compile({self.pattern!r}, {self.flags})"
        return f"find({what}{_optional(self)})"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """Tokens that overlap a match."""
        if tokens.generated:
            return torch.zeros_like(tokens.real)
        rows = [self._row(row, number) for number, row in enumerate(tokens.texts, tokens.first)]
        return torch.stack(rows).to(tokens.real.device) & tokens.real

    def _row(self, row: RowText, number: int) -> Bool[Tensor, " pos"]:
        compiled = re.compile(re.escape(self.pattern) if self.flags is None else self.pattern, self.flags or 0)
        spans = [match.span() for match in compiled.finditer(row.text) if match.group()]
        if not spans and not self.optional:
            raise HookPointError(
                f"nothing in row {number} matches {self!r}: its text begins {row.text[:_SHOWN]!r}"
                " (optional=True leaves such rows alone)"
            )
        found = torch.zeros(len(row.spans), dtype=torch.bool)
        for start, stop in spans:
            found |= row.over(start, stop)
        return found


@dataclass(frozen=True, repr=False)
class Chars(Selector):
    """Tokens that overlap some characters of the user's own text (`Prompt.text`).

    Attributes:
        start, stop: as in a Python slice of the text.
    """

    start: int
    stop: int | None = None

    def __repr__(self) -> str:
        """The expression that makes it."""
        return f"chars({self.start}, {self.stop})"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """Tokens that overlap the characters."""
        if tokens.generated:
            return torch.zeros_like(tokens.real)
        rows = [self._row(row, number) for number, row in enumerate(tokens.texts, tokens.first)]
        return torch.stack(rows).to(tokens.real.device) & tokens.real

    def _row(self, row: RowText, number: int) -> Bool[Tensor, " pos"]:
        found = torch.zeros(len(row.spans), dtype=torch.bool)
        said = [turn for turn in turns(row, repr(self)) if turn.last]
        if not said:
            raise HookPointError(
                f"row {number}: the chat template leaves the text of the prompt out, so it has no tokens"
            )
        for own in said:
            first, last, _ = slice(self.start, self.stop).indices(own.length)
            # What the template cut off at the ends has no tokens.
            start = max(own.start, own.start - own.skipped + first)
            stop = min(own.stop, own.start - own.skipped + last)
            if start >= stop:
                raise HookPointError(
                    f"no characters {self.start}:{self.stop} in row {number}: its text has {own.length}"
                )
            found |= row.over(start, stop)
        return found


@dataclass(frozen=True, repr=False)
class New(Selector):
    """New tokens of a generation, by number: the first new token is 0.

    Attributes:
        start, stop, step: as of a range; no end where stop is None.
        among: these numbers alone, or None for all of the range.
    """

    start: int = 0
    stop: int | None = None
    step: int = 1
    among: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        """The expression that makes it."""
        if self.among is not None:
            return f"new(steps={list(self.among)})"
        if self == New():
            return "new()"
        if (self.start, self.step) == (0, 1):
            return f"new(first={self.stop})"
        return f"new(steps=slice({self.start}, {self.stop}, {self.step}))"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """The new token, if its number is meant."""
        return tokens.real & bool(self.phase(tokens.step))

    def phase(self, step: int) -> Hashable:
        """Whether the new token of that pass is meant."""
        number = step - 1
        if step == 0 or self.among is not None:
            return self.among is not None and number in self.among
        past = self.stop is not None and number >= self.stop
        return number >= self.start and not past and (number - self.start) % self.step == 0

    @property
    def in_prompt(self) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, repr=False)
class OfVocabulary(Selector):
    """Prompt tokens that are one of some tokens of the vocabulary.

    Attributes:
        tokens: ids, or tokens as the vocabulary writes them (``"▁cat"``, ``"<row_1_col_1>"``).
        optional: whether rows without any are left alone.
    """

    tokens: tuple[str | int, ...]
    optional: bool = False

    def __repr__(self) -> str:
        """The expression that makes it."""
        return f"token({', '.join(map(repr, self.tokens))}{_optional(self)})"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """Tokens with one of the ids."""
        if tokens.generated:
            return torch.zeros_like(tokens.real)
        ids = [token if isinstance(token, int) else tokens.id_of(token) for token in self.tokens]
        found = tokens.real & torch.isin(tokens.ids, torch.tensor(ids, device=tokens.ids.device)).to(tokens.real.device)
        missing = (~found.any(1)).nonzero().flatten()
        if missing.numel() and not self.optional:
            raise HookPointError(
                f"row {tokens.first + int(missing[0])} has no token of {self!r} (optional=True leaves such rows alone)"
            )
        return found


@dataclass(frozen=True, repr=False)
class Custom(Selector):
    """Tokens that a function chooses.

    Attributes:
        fn: is given `Tokens` and returns a mask ``batch pos``; what it says of padding does not count.
    """

    fn: Callable[[Tokens], Tensor]

    def __repr__(self) -> str:
        """The function's name."""
        name = getattr(self.fn, "__qualname__", type(self.fn).__qualname__)
        return f"at({name})"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """What the function returns, at real tokens."""
        mask = self.fn(tokens)
        shape = tuple(tokens.real.shape)
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != shape:
            what = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise InputError(f"{self!r} returned {what}: a position's function returns a bool tensor of shape {shape}")
        return mask.to(tokens.real.device) & tokens.real

    def phase(self, step: int) -> Hashable:
        """The step: a function may look at it."""
        return step


def turns(row: RowText, asked: str) -> tuple[Said, ...]:
    """Turns of a row's conversation.

    Raises:
        HookPointError: they are not known.
    """
    if row.turns is None:
        raise HookPointError(f"position {asked} needs to know who says what: {row.unknown}")
    return row.turns


def _said(tokens: Tokens, role: str) -> Bool[Tensor, "batch pos"]:
    found = torch.zeros(tokens.real.shape, dtype=torch.bool)
    for number, row in enumerate(tokens.texts):
        for said in turns(row, repr(role)):
            if said.role == role:
                found[number] |= row.over(said.start, said.stop)
    return found.to(tokens.real.device) & tokens.real & ~tokens.image


def _counted(tokens: Tokens) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch 1"]]:
    return tokens.real.cumsum(1) - 1, tokens.real.sum(1, keepdim=True)


def _bound(
    value: int | None, length: Int[Tensor, "batch 1"], default: Int[Tensor, "batch 1"]
) -> Int[Tensor, "batch 1"]:
    if value is None:
        return default
    return torch.full_like(length, value) if value >= 0 else length + value


def _optional(selector: "OneImage | Index | Find | OfVocabulary") -> str:
    return ", optional=True" if selector.optional else ""
