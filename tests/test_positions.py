"""Positions count real tokens, whatever the padding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cmrm_interp.errors import HookPointError
from cmrm_interp.positions import NAMED, Tokens, check_position, last_index, position_mask
from tests.support import unchecked

LENGTHS = [3, 5, 1]


def padded(lengths, side, images=()):
    """Rows of the given lengths; ``images`` are (row, number of the token) of image tokens."""
    width = max(lengths)
    real = torch.tensor(
        [[False] * (width - n) + [True] * n if side == "left" else [True] * n + [False] * (width - n) for n in lengths]
    )
    image = torch.zeros_like(real)
    for row, number in images:
        image[row, number + (width - lengths[row] if side == "left" else 0)] = True
    return Tokens(real, image)


def chosen(position, tokens):
    """Numbers of the chosen tokens among the real ones of each row."""
    mask = position_mask(position, tokens)
    assert not (mask & ~tokens.real).any()
    return [row[real].nonzero().flatten().tolist() for row, real in zip(mask, tokens.real, strict=True)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("position", "wanted"),
    [
        ("last", [[2], [4], [0]]),
        ("all", [[0, 1, 2], [0, 1, 2, 3, 4], [0]]),
        ("prompt", [[0, 1, 2], [0, 1, 2, 3, 4], [0]]),
        ("image", [[1], [0, 1], []]),
        ("text", [[0, 2], [2, 3, 4], [0]]),
        ("generated", [[], [], []]),
        (0, [[0], [0], [0]]),
        (-1, [[2], [4], [0]]),
        (slice(1, 3), [[1, 2], [1, 2], []]),
        (slice(-2, None), [[1, 2], [3, 4], [0]]),
        (slice(None, -1), [[0, 1], [0, 1, 2, 3], []]),
        (slice(None), [[0, 1, 2], [0, 1, 2, 3, 4], [0]]),
        (slice(9, 12), [[], [], []]),
    ],
)
def test_positions_of_a_prompt(position, wanted, side):
    assert chosen(position, padded(LENGTHS, side, [(0, 1), (1, 0), (1, 1)])) == wanted


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("position", [*NAMED, 0, -1, slice(0, 2)])
def test_positions_of_a_new_token(position, side):
    tokens = padded(LENGTHS, side, [(0, 2)]).new_token()
    assert position_mask(position, tokens).tolist() == [[position in ("last", "all", "generated")]] * 3


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.sampled_from(["left", "right"]),
    st.one_of(st.none(), st.integers(-7, 7)),
    st.one_of(st.none(), st.integers(-7, 7)),
)
def test_slices_are_those_of_python(lengths, side, start, stop):
    wanted = [list(range(n))[start:stop] for n in lengths]
    assert chosen(slice(start, stop), padded(lengths, side)) == wanted


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.sampled_from(["left", "right"]))
def test_the_last_column_is_where_last_is(lengths, side):
    tokens = padded(lengths, side)
    mask = position_mask("last", tokens)
    assert mask.sum(1).tolist() == [1] * len(lengths)
    assert mask.int().argmax(1).tolist() == last_index(tokens.real).tolist()


@pytest.mark.parametrize("position", [1, -2, 5, -6])
def test_a_row_that_is_too_short_is_named(position):
    words = rf"no position {position}: row 2 has 1 tokens \(0-0\)"
    with pytest.raises(HookPointError, match=words):
        position_mask(position, padded(LENGTHS, "left"))


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ("lst", r"no position 'lst': use one of last, all, prompt, image, text, generated, an int or a slice"),
        (1.5, "a position is a name, an int or a slice, not float"),
        (True, "a position is a name, an int or a slice, not bool"),
        (None, "a position is a name, an int or a slice, not NoneType"),
        (slice(0, 4, 2), "a slice of positions has no step"),
    ],
)
def test_what_is_no_position(position, words):
    with unchecked(), pytest.raises(HookPointError, match=words):
        check_position(position)
