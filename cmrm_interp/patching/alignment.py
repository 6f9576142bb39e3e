"""Alignment: which token of each row of one run stands for which token of the same row of another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cmrm_interp.axes import Int, Tensor
from cmrm_interp.encoding import Batch
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.inputs import Inputs, need_inputs
from cmrm_interp.patching.matching import Row, Unequal, match
from cmrm_interp.positions import Position, position_mask

if TYPE_CHECKING:
    import pandas as pd

_ROWS_A_BATCH = 32


@dataclass(frozen=True, eq=False)
class Alignment:
    """Pairs of tokens of two runs of the same rows; tokens are counted from 0 over the real tokens of a row.

    Attributes:
        a: the one run.
        b: the other.
        rows: tokens of each row, of both.
        pairs: of each row, ``(token of a, token of b)``, in order.
    """

    a: Inputs
    b: Inputs
    rows: tuple[tuple[Row, Row], ...]
    pairs: tuple[tuple[tuple[int, int], ...], ...]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.pairs)

    def __repr__(self) -> str:
        """Counts, one line."""
        lengths = [f"{len(a.ids)} to {len(b.ids)} tokens, {len(p)} pairs" for (a, b), p in self._each()][:3]
        more = f"; ... {len(self)} rows" if len(self) > 3 else ""
        return f"Alignment({'; '.join(lengths)}{more})"

    def counterparts(self, row: int) -> Int[Tensor, " pos"]:
        """For each token of `b` in a row its counterpart in `a`; -1 where it has none."""
        found = torch.full((len(self.rows[row][1].ids),), -1)
        for x, y in self.pairs[row]:
            found[y] = x
        return found

    def masks(self, positions: Mapping[str, Position]) -> list[dict[str, Tensor]]:
        """Which tokens of each row of `b` some positions mean, over its real tokens.

        Args:
            positions: by name; see `cmrm_interp.positions`.

        Raises:
            HookPointError: a row has no such token.
        """
        found: list[dict[str, Tensor]] = []
        for batch in self.b.batches(_ROWS_A_BATCH):
            masks = {name: position_mask(position, batch.tokens) for name, position in positions.items()}
            found += [
                {name: mask[i, real].cpu() for name, mask in masks.items()} for i, real in enumerate(batch.tokens.real)
            ]
        return found

    def table(self, row: int = 0) -> "pd.DataFrame":
        """The tokens of a row of both runs beside each other; what has no counterpart stands alone."""
        import pandas as pd

        (a, b), partner = self.rows[row], self.counterparts(row).tolist()
        lines: list[tuple[int | None, str, int | None, str]] = []
        done = 0
        for y, x in enumerate(partner):
            for alone in range(done, x):
                lines.append((alone, a.pieces[alone], None, ""))
            lines.append((x if x >= 0 else None, a.pieces[x] if x >= 0 else "", y, b.pieces[y]))
            done = max(done, x + 1)
        lines += [(alone, a.pieces[alone], None, "") for alone in range(done, len(a.ids))]
        return pd.DataFrame(lines, columns=["a", "token of a", "b", "token of b"]).astype({"a": "Int64", "b": "Int64"})

    def _each(self) -> Iterator[tuple[tuple[Row, Row], tuple[tuple[int, int], ...]]]:
        return zip(self.rows, self.pairs, strict=True)


def align(a: Inputs, b: Inputs, unequal: Unequal = "refuse") -> Alignment:
    """Which token of each row of `a` stands for which token of the same row of `b`.

    For runs of one prompt that differ in their image (none, blank, another) or in words. Template and words are
    paired token by token; an image with another of as many tokens, too; an image has no counterpart in a run of
    text alone, nor have the tokens that a template puts around it.

    Args:
        a: the one run, from `Model.prepare` or `Model.from_encoding`.
        b: the other, with as many rows.
        unequal: ``"refuse"`` words that make another number of tokens, or ``"leave"`` them without a counterpart
            and pair what is the same before and behind them.

    Raises:
        MismatchError: another number of rows, words that cannot be paired, or nothing in common.
        InputError: another `unequal`.
    """
    if unequal not in ("refuse", "leave"):
        raise InputError(f"unequal={unequal!r}: use 'refuse' or 'leave'")
    for given in (a, b):
        need_inputs(given)
    if len(a) != len(b):
        raise MismatchError(f"{len(a)} rows and {len(b)} rows: patching needs the same prompts in both runs, in order")
    rows = tuple(zip(_rows(a), _rows(b), strict=True))
    pairs = tuple(tuple(match(x, y, row, unequal)) for row, (x, y) in enumerate(rows))
    for row, own in enumerate(pairs):
        if not own:
            x, y = rows[row]
            raise MismatchError(f"row {row}: no token is common to both runs: {x.shown(0)!r} and {y.shown(0)!r}")
    return Alignment(a, b, rows, pairs)


def _rows(inputs: Inputs) -> list[Row]:
    return [row for batch in inputs.batches(_ROWS_A_BATCH) for row in _rows_of(inputs, batch)]


def _rows_of(inputs: Inputs, batch: Batch) -> Iterator[Row]:
    tokens = batch.tokens
    for ids, numbers, real in zip(tokens.ids, tokens.numbers, tokens.real, strict=True):
        own = ids[real].tolist()
        yield Row(tuple(own), tuple(numbers[real].tolist()), tuple(_pieces(inputs, own)))


def _pieces(inputs: Inputs, ids: Sequence[int]) -> list[str]:
    tokenizer = inputs.encoder.tokenizer
    return [str(i) for i in ids] if tokenizer is None else tokenizer.convert_ids_to_tokens(list(ids))
