"""Named stretches of a prompt: template, image, user's text, last token; which token of each row they mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from cmrm_interp.axes import Bool, Int, Tensor
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.patching.alignment import Alignment
from cmrm_interp.positions import Position, Selector, Tokens, as_selector, at, last_index


@dataclass(frozen=True, repr=False)
class Template(Selector):
    """Tokens of the chat template (those around images included) before or behind the user's text.

    Attributes:
        behind: which of the two. The last token of the prompt is not among those behind.
    """

    behind: bool = False

    def __repr__(self) -> str:
        """The call that makes it."""
        return f"Template(behind={self.behind})"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """Tokens on that side."""
        if tokens.generated:
            return torch.zeros_like(tokens.real)
        said = as_selector("user").mask(tokens)
        columns = torch.arange(said.shape[1], device=said.device)
        first, last = said.int().argmax(1)[:, None], last_index(said)[:, None]
        own = tokens.real & ~tokens.image & ~said
        if self.behind:
            return own & (columns > last) & (columns != last_index(tokens.real)[:, None])
        return own & (columns < first)


SPANS: Mapping[str, Position] = {
    "template before": Template(),
    "image": "image",
    "user": "user",
    "template behind": Template(behind=True),
    "last": "last",
}


@dataclass(frozen=True, eq=False)
class Places:
    """Tokens of the run that is patched, and their counterparts in the run that is patched from.

    Attributes:
        positions: the tokens.
        numbers: for each row, of the tokens that `positions` means in it, in order, the number (over real tokens) of
            the counterpart; -1 where there is none, and behind the last.
        counts: how many tokens `positions` means in each row.
    """

    positions: Position
    numbers: Int[Tensor, "batch n"]
    counts: Int[Tensor, " batch"]

    @property
    def per_row(self) -> Int[Tensor, " batch"]:
        """How many tokens of each row have a counterpart."""
        return (self.numbers >= 0).sum(1)


def places(alignment: Alignment, positions: Mapping[str, Position]) -> dict[str, Places]:
    """Places by name.

    Args:
        alignment: from the run that is patched from to the one that is patched.
        positions: by name, in the run that is patched.

    Raises:
        HookPointError: a row has no such token.
    """
    masks = alignment.masks(positions)
    partners = [alignment.counterparts(row) for row in range(len(alignment))]
    found = {}
    for name, position in positions.items():
        numbers = [partner[own[name]] for partner, own in zip(partners, masks, strict=True)]
        counts = torch.tensor([len(n) for n in numbers])
        # New tokens of an answer have no counterpart, though "last" and "all" mean them, too.
        found[name] = Places(
            as_selector(position) & "prompt", torch.nn.utils.rnn.pad_sequence(numbers, True, -1), counts
        )
    return found


def spans(alignment: Alignment, wanted: Sequence[str] | Mapping[str, Position] | None = None) -> dict[str, Places]:
    """Stretches of a prompt with their places.

    Args:
        alignment: from the run that is patched from to the one that is patched.
        wanted: names of `SPANS`, or positions by a name of one's own; None for those of `SPANS` that both runs have.

    Raises:
        InputError: a name that there is not.
        HookPointError: turns that are not known, as in inputs made by `from_encoding`.
        MismatchError: a row has no token of a wanted stretch with a counterpart.
    """
    positions = SPANS if wanted is None else _named(wanted)
    found = places(alignment, positions)
    if wanted is None:
        found = {name: place for name, place in found.items() if bool((place.per_row > 0).all())}
    for name, place in found.items():
        check(name, place)
    return found


def from_the_end(alignment: Alignment, wanted: Sequence[int] | None = None) -> dict[int, Places]:
    """Single tokens, counted from the last one (-1), with their places.

    Args:
        alignment: from the run that is patched from to the one that is patched.
        wanted: numbers; None for all tokens that have a counterpart in every row, first to last.

    Raises:
        MismatchError: a row has no such token, or one without a counterpart.
    """
    shortest = min(len(b.ids) for _, b in alignment.rows)
    numbers = range(-shortest, 0) if wanted is None else wanted
    wrong = [n for n in numbers if not isinstance(n, int) or isinstance(n, bool) or not -shortest <= n < 0]
    if wrong:
        raise MismatchError(
            f"position {wrong[0]!r}: tokens are counted from the end, and the shortest row has {shortest}:"
            f" -{shortest} to -1"
        )
    # One mask for all of them: an image has hundreds of tokens.
    partners = [alignment.counterparts(row) for row in range(len(alignment))]
    ones = torch.ones(len(alignment), dtype=torch.long)
    table = {n: torch.stack([partner[n] for partner in partners])[:, None] for n in numbers}
    if wanted is None:
        table = {n: partner for n, partner in table.items() if bool((partner >= 0).all())}
    found = {n: Places(at(n), partner, ones) for n, partner in table.items()}
    for n, place in found.items():
        check(n, place)
    return found


def check(name: str | int, place: Places) -> None:
    """Refuse a place that is empty in some row.

    Raises:
        MismatchError: a row has no token there that has a counterpart.
    """
    empty = (place.per_row == 0).nonzero().flatten()
    if empty.numel():
        raise MismatchError(
            f"{name!r}: row {int(empty[0])} has {int(place.counts[empty[0]])} such tokens, and none has a counterpart"
            " in the run that is patched from (see ci.patching.align(a, b).table())"
        )


def _named(wanted: Sequence[str] | Mapping[str, Position]) -> Mapping[str, Position]:
    if isinstance(wanted, Mapping):
        return wanted
    unknown = [name for name in wanted if name not in SPANS]
    if unknown or not wanted:
        raise InputError(
            f"no span {unknown[0]!r}: use {', '.join(SPANS)}, or a dict of positions by name"
            if unknown
            else "no spans: leave positions= out for all"
        )
    return {name: SPANS[name] for name in wanted}
