"""Which tokens of one run stand for which of another: by ids, around images, one row at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cmrm_interp.errors import MismatchError

Unequal = Literal["refuse", "leave"]
# Of a misaligned pair so many tokens are shown on either side of the place.
_SHOWN = 4
_SPACES = "▁Ġ \n\t"


@dataclass(frozen=True)
class Row:
    """The real tokens of one row.

    Attributes:
        ids: of the vocabulary.
        images: which image of the row each token belongs to, from 0; -1 at words and template.
        pieces: the tokens as the vocabulary writes them.
    """

    ids: tuple[int, ...]
    images: tuple[int, ...]
    pieces: tuple[str, ...]

    @property
    def blocks(self) -> list[range]:
        """Tokens of each image, from its first to its last, with what stands between (ends of lines, tiles)."""
        places: dict[int, list[int]] = {}
        for place, number in enumerate(self.images):
            if number >= 0:
                places.setdefault(number, []).append(place)
        return [range(own[0], own[-1] + 1) for own in places.values()]

    @property
    def texts(self) -> list[range]:
        """What stands before, between and behind the images."""
        blocks = self.blocks
        starts, stops = [0, *(b.stop for b in blocks)], [*(b.start for b in blocks), len(self.ids)]
        return [range(start, stop) for start, stop in zip(starts, stops, strict=True)]

    def shown(self, place: int) -> str:
        """The tokens around a place, an image as one of them."""
        near = range(max(0, place - _SHOWN), min(len(self.ids), place + _SHOWN))
        pieces = ["<image>" if self.images[i] >= 0 else self.pieces[i] for i in near]
        kept = [p for n, p in enumerate(pieces) if p != "<image>" or n == 0 or pieces[n - 1] != p]
        return " ".join(kept) + (" ..." if near.stop < len(self.ids) else "")


def match(a: Row, b: Row, row: int = 0, unequal: Unequal = "refuse") -> list[tuple[int, int]]:
    """Pairs of places, one in each row, in order.

    Where both have equally many images, what stands around them is paired token by token, and an image with the one
    of the same number if they have the same tokens. Where they have not, words and template are paired by what they
    say, and what only the run with more images has stays alone.

    Args:
        a: a row of the one run.
        b: the same row of the other.
        row: its number, for errors.
        unequal: what to do with words of unequal length between a common beginning and a common end: refuse them, or
            leave them without a counterpart.

    Raises:
        MismatchError: words of unequal length.
    """
    if len(a.blocks) == len(b.blocks):
        images = [list(zip(x, y, strict=True)) for x, y in zip(a.blocks, b.blocks, strict=True) if _equal(a, x, b, y)]
        texts = [_words(a, x, b, y, row, unequal) for x, y in zip(a.texts, b.texts, strict=True)]
        return sorted(pair for part in (*images, *texts) for pair in part)
    if len(a.blocks) > len(b.blocks):
        return [(x, y) for y, x in match(b, a, row, unequal)]
    if a.blocks:
        ends = [(a.texts[i], b.texts[i]) for i in (0, -1)]
        return [pair for x, y in ends for pair in _words(a, x, b, y, row, unequal)]
    return _around(a, b, row, unequal)


def _words(a: Row, mine: range, b: Row, theirs: range, row: int, unequal: Unequal) -> list[tuple[int, int]]:
    if len(mine) == len(theirs):
        return list(zip(mine, theirs, strict=True))
    head, tail = _ends(a, mine, b, theirs, theirs)
    if unequal == "refuse":
        raise _misaligned(a, mine.start + head, b, theirs.start + head, row)
    return _joined(mine, theirs, head, tail)


def _around(a: Row, b: Row, row: int, unequal: Unequal) -> list[tuple[int, int]]:
    """Pairs of a row without images and one with them."""
    mine, before, behind = range(len(a.ids)), b.texts[0], b.texts[-1]
    head, tail = _ends(a, mine, b, before, behind)
    rest = _letters(a, mine[head : len(mine) - tail])
    # A word may be cut otherwise behind an image than behind a space; another word may not stand there.
    near = _letters(b, [*before[head:], *behind[: len(behind) - tail]])
    if rest not in near and unequal == "refuse":
        more = _run(_alike(a, x, b, y) for x, y in zip(mine[head:], behind, strict=False))
        raise _misaligned(a, head + more, b, behind.start + more, row)
    return _joined(mine, range(before.start, behind.stop), head, tail)


def _joined(mine: range, theirs: range, head: int, tail: int) -> list[tuple[int, int]]:
    ends = zip(mine[len(mine) - tail :], theirs[len(theirs) - tail :], strict=True)
    return [*zip(mine[:head], theirs[:head], strict=True), *ends]


def _ends(a: Row, mine: range, b: Row, before: range, behind: range) -> tuple[int, int]:
    """How many tokens are the same from the front, and of the rest from the back."""
    head = _run(_alike(a, x, b, y) for x, y in zip(mine, before, strict=False))
    # Where there is but one stretch on each side, its tokens are not to be used twice.
    free = min(len(mine), len(behind)) - head if before == behind else len(mine) - head
    tail = _run(_alike(a, x, b, y) for x, y in zip(reversed(mine), reversed(behind), strict=False))
    return head, min(tail, free)


def _run(same: Iterator[bool]) -> int:
    return next((n for n, yes in enumerate([*same, False]) if not yes), 0)


def _alike(a: Row, x: int, b: Row, y: int) -> bool:
    if a.images[x] >= 0 or b.images[y] >= 0:
        return False
    mine = _letters(a, [x])
    return a.ids[x] == b.ids[y] or (mine != "" and mine == _letters(b, [y]))


def _letters(row: Row, places: Sequence[int]) -> str:
    return "".join(row.pieces[i].strip(_SPACES) for i in places if row.images[i] < 0)


def _equal(a: Row, x: range, b: Row, y: range) -> bool:
    return a.ids[x.start : x.stop] == b.ids[y.start : y.stop]


def _misaligned(a: Row, x: int, b: Row, y: int, row: int) -> MismatchError:
    return MismatchError(
        f"row {row}: the two runs cannot be aligned where the one reads {a.shown(x)!r} and the other {b.shown(y)!r}:"
        " give the same words, or (in runs with equally many images) words that make equally many tokens;"
        " unequal='leave' leaves these without a counterpart"
    )
