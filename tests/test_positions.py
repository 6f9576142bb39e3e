"""Positions count real tokens, whatever the padding."""

import json
import re
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cmrm_interp.errors import HookPointError, InputError, StoreError
from cmrm_interp.positions import (
    NAMED,
    RowText,
    Said,
    Source,
    Tokens,
    as_selector,
    at,
    chars,
    check_position,
    find,
    from_data,
    last_index,
    new,
    padding,
    position_mask,
    simple,
    to_data,
    token,
)
from tests.support import unchecked

# beartype checks random items of what the strategies make.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
LENGTHS = [3, 5, 1]
SIDES = ["left", "right"]


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
        ("first", [[0], [0], [0]]),
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
        (new(), [[], [], []]),
        (new(first=3), [[], [], []]),
        (at("image") | at(-1), [[1, 2], [0, 1, 4], [0]]),
        ("image" | at(0), [[0, 1], [0, 1], [0]]),
        (at("prompt") & ~at("image"), [[0, 2], [2, 3, 4], [0]]),
        (slice(0, 2) & at("text"), [[0], [], [0]]),
        (at(4, optional=True), [[], [4], []]),
        (lambda tokens: tokens.real & (tokens.real.cumsum(1) == 1), [[0], [0], [0]]),
        (lambda tokens: torch.ones_like(tokens.real), [[0, 1, 2], [0, 1, 2, 3, 4], [0]]),
        (~at(slice(1, None)), [[0], [0], [0]]),
    ],
)
def test_positions_of_a_prompt(position, wanted, side):
    assert chosen(position, padded(LENGTHS, side, [(0, 1), (1, 0), (1, 1)])) == wanted


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("position", [*NAMED, 0, -1, slice(0, 2), find("x"), chars(0), token(5), at("image", 0)])
def test_positions_of_a_new_token(position, side):
    tokens = padded(LENGTHS, side, [(0, 2)]).new_token()
    goes_on = isinstance(position, str) and position in ("last", "all", "assistant", "generated")
    assert position_mask(position, tokens).tolist() == [[goes_on]] * 3


@pytest.mark.parametrize(
    ("position", "wanted"),
    [
        (new(), [0, 1, 2, 3, 4]),
        (new(first=2), [0, 1]),
        (new(first=0), []),
        (new(steps=3), [3]),
        (new(steps=[0, 2]), [0, 2]),
        (new(steps={4, 0}), [0, 4]),
        (new(steps=[]), []),
        (new(steps=slice(1, 3)), [1, 2]),
        (new(steps=slice(3, None)), [3, 4]),
        (new(steps=slice(None, None, 2)), [0, 2, 4]),
        (new(steps=slice(1, 4, 2)), [1, 3]),
        (~new(first=2), [2, 3, 4]),
        (at("last") & ~new(first=1), [1, 2, 3, 4]),
        (new(steps=1) | new(steps=3), [1, 3]),
        (~at("image"), [0, 1, 2, 3, 4]),
        (lambda tokens: tokens.real & (tokens.step == 2), [1]),
    ],
)
def test_new_tokens_by_number(position, wanted):
    prompt = padded(LENGTHS, "left")
    for number in range(5):
        # The pass over the first new token is step 1, and that token's number is 0.
        assert position_mask(position, prompt.new_token(number + 1)).tolist() == [[number in wanted]] * 3


@pytest.mark.parametrize("side", SIDES)
def test_padding_is_what_is_no_token(side):
    tokens = padded(LENGTHS, side)
    assert torch.equal(position_mask(padding(), tokens), ~tokens.real)
    assert torch.equal(position_mask(~padding(), tokens), tokens.real)
    assert not position_mask(padding(), tokens.new_token()).any()


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.sampled_from(SIDES),
    st.one_of(st.none(), st.integers(-7, 7)),
    st.one_of(st.none(), st.integers(-7, 7)),
)
def test_slices_are_those_of_python(lengths, side, start, stop):
    wanted = [list(range(n))[start:stop] for n in lengths]
    assert chosen(slice(start, stop), padded(lengths, side)) == wanted


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.sampled_from(SIDES))
def test_the_last_column_is_where_last_is(lengths, side):
    tokens = padded(lengths, side)
    mask = position_mask("last", tokens)
    assert mask.sum(1).tolist() == [1] * len(lengths)
    assert mask.int().argmax(1).tolist() == last_index(tokens.real).tolist()


@dataclass(frozen=True, eq=False)
class Known(Source):
    """Rows of one-letter tokens whose ids are their letters; capitals are tokens of images, `cuts` begin one."""

    rows: tuple[str, ...]
    side: str
    cuts: tuple[tuple[int, ...], ...] = ()

    def _padded(self, rows, fill):
        width = max(map(len, rows))
        pads = [[fill] * (width - len(row)) for row in rows]
        sides = [
            [pad, list(row)] if self.side == "left" else [list(row), pad] for row, pad in zip(rows, pads, strict=True)
        ]
        return torch.tensor([before + after for before, after in sides])

    @property
    def ids(self):
        return self._padded([[ord(letter) for letter in row] for row in self.rows], 0)

    @property
    def numbers(self):
        rows = []
        for row, cuts in zip(self.rows, self.cuts or [()] * len(self.rows), strict=True):
            rows.append([sum(n > cut for cut in cuts) if c.isupper() else -1 for n, c in enumerate(row)])
        return self._padded(rows, -1)

    @property
    def texts(self):
        places = self._padded([[(n, n + 1) for n in range(len(row))] for row in self.rows], (0, 0))
        turns = [(Said("user", n // 2, n, 0, n - n // 2, last=True),) for n in map(len, self.rows)]
        return tuple(RowText(*known) for known in zip(self.rows, places, turns, strict=True))

    def id_of(self, name):
        return ord(name)

    def tokens(self, first=0):
        ids = self.ids
        image = torch.tensor([[chr(i).isupper() for i in row] for row in ids.tolist()])
        return Tokens(ids != 0, image, source=self, first=first)


ROWS = ("abXXcaYYYb", "ab", "bXab")
CUTS = ((4,), (), ())


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("position", "wanted"),
    [
        (at("image", 0), [[2, 3], [], [1]]),
        (at("image", -1), [[6, 7, 8], [], [1]]),
        (at("image", 1, optional=True), [[6, 7, 8], [], []]),
        (at("image", -2, optional=True), [[2, 3], [], []]),
        (find("ab"), [[0, 1], [0, 1], [2, 3]]),
        (find("XXca", optional=True), [[2, 3, 4, 5], [], []]),
        (re.compile("b"), [[1, 9], [1], [0, 3]]),
        (find(re.compile("^A", re.IGNORECASE), optional=True) | at(-1), [[0, 9], [0, 1], [3]]),
        (find(re.compile("a.?b"), optional=True), [[0, 1], [0, 1], [2, 3]]),
        (find(re.compile("q*"), optional=True), [[], [], []]),
        (at(re.compile("c"), optional=True), [[4], [], []]),
        (token("b", ord("a")), [[0, 1, 5, 9], [0, 1], [0, 2, 3]]),
        (token("Y", optional=True), [[6, 7, 8], [], []]),
        (chars(0), [[5, 6, 7, 8, 9], [1], [2, 3]]),
        (chars(-1), [[9], [1], [3]]),
        (chars(0, 1), [[5], [1], [2]]),
        ("user", [[5, 9], [1], [2, 3]]),
        ("system", [[], [], []]),
        (find("b") & ~at("user"), [[1], [], [0]]),
    ],
)
def test_positions_that_read(position, wanted, side):
    assert chosen(position, Known(ROWS, side, CUTS).tokens()) == wanted


POSITIONS = [
    *(name for name in NAMED if name not in ("padding",)),
    0,
    -1,
    slice(1, 3),
    slice(None, -1),
    re.compile("b"),
    at("image", 0),
    at("image", 1, optional=True),
    find("a"),
    find("XX", optional=True),
    chars(0, 1),
    token("a", "b"),
    new(first=2),
    new(steps=[0, 2]),
    lambda tokens: tokens.real & (tokens.real.cumsum(1) % 2 == 1),
]
SELECTORS = st.recursive(
    st.sampled_from(POSITIONS).map(at),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: two[0] | two[1]),
        st.tuples(inner, inner).map(lambda two: two[0] & two[1]),
        inner.map(lambda one: ~one),
    ),
    max_leaves=4,
)


def passes(side):
    """Tokens of a prompt and of three steps after it."""
    prompt = Known(ROWS, side, CUTS).tokens()
    return [prompt, *(prompt.new_token(step) for step in (1, 2, 3))]


@given(SELECTORS, SELECTORS, st.sampled_from(SIDES))
def test_union_intersection_and_negation_are_those_of_sets(a, b, side):
    for tokens in passes(side):
        in_a, in_b = position_mask(a, tokens), position_mask(b, tokens)
        assert not (in_a & ~tokens.real).any()
        assert torch.equal(position_mask(a | b, tokens), in_a | in_b)
        assert torch.equal(position_mask(a & b, tokens), in_a & in_b)
        assert torch.equal(position_mask(~a, tokens), tokens.real & ~in_a)
        assert torch.equal(position_mask(~(a | b), tokens), position_mask(~a & ~b, tokens))
        assert torch.equal(position_mask(~(a & b), tokens), position_mask(~a | ~b, tokens))
    assert ~~a == a


@given(SELECTORS)
def test_the_padding_side_and_the_other_rows_do_not_matter(selector):
    left, right = (Known(ROWS, side, CUTS).tokens() for side in SIDES)
    wanted = chosen(selector, left)
    assert chosen(selector, right) == wanted
    alone = [Known((row,), "left", (cut,)).tokens(n) for n, (row, cut) in enumerate(zip(ROWS, CUTS, strict=True))]
    assert [chosen(selector, one)[0] for one in alone] == wanted


@given(SELECTORS, st.integers(1, 3))
def test_rows_that_are_repeated_are_chosen_alike(selector, n):
    tokens = Known(ROWS, "left", CUTS).tokens()
    again = tokens.repeated(n)
    assert torch.equal(position_mask(selector, again), position_mask(selector, tokens).repeat_interleave(n, 0))
    later = again.new_token(2)
    assert torch.equal(position_mask(selector, later), position_mask(selector, tokens.new_token(2))[[0] * 3 * n])


@given(SELECTORS)
def test_passes_of_one_phase_choose_alike(selector):
    prompt, *later = passes("left")
    del prompt
    masks = {}
    for tokens in later:
        mask = position_mask(selector, tokens)
        assert torch.equal(masks.setdefault(selector.phase(tokens.step), mask), mask)


@given(SELECTORS)
def test_a_selector_that_cannot_mean_the_prompt_does_not(selector):
    if not selector.in_prompt:
        assert not position_mask(selector, Known(ROWS, "left", CUTS).tokens()).any()
    if selector.single:
        assert position_mask(selector, Known(ROWS, "left", CUTS).tokens()).sum(1).tolist() == [1, 1, 1]


WRITTEN = [p for p in POSITIONS if not callable(p)]


@given(st.data())
def test_positions_come_back_from_json_and_from_what_they_print(data):
    one, other = (at(data.draw(st.sampled_from(WRITTEN))) for _ in range(2))
    for selector in (one, one | other, one & ~other, ~(one | other) & at("text")):
        again = from_data(json.loads(json.dumps(to_data(selector))))
        assert as_selector(again) == selector
        assert simple(again) == simple(selector)
        names = {"at": at, "find": find, "chars": chars, "token": token, "new": new, "re": re}
        assert eval(repr(selector), names) == selector
        assert hash(as_selector(again)) == hash(selector)


@pytest.mark.parametrize(
    ("position", "data"),
    [("last", "last"), (-1, -1), (slice(1, None), [1, None]), (at("image"), "image"), (at(3), 3), (at("last"), "last")],
)
def test_simple_positions_are_written_as_before(position, data):
    assert to_data(position) == data
    assert simple(position) == (slice(*data) if isinstance(data, list) else data)


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (at("image", 1) | at(-1) | "text", "(at('image', 1) | at(-1) | at('text'))"),
        (~(at("all") & slice(0, 4)), "~(at('all') & at(slice(0, 4)))"),
        (find("cat") & ~at("user"), "(find('cat') & ~at('user'))"),
        (find(re.compile("c.t", re.IGNORECASE), optional=True), "find(re.compile('c.t', 34), optional=True)"),
        (chars(3, 9), "chars(3, 9)"),
        (new(), "new()"),
        (new(first=3), "new(first=3)"),
        (new(steps=[2, 0]), "new(steps=[0, 2])"),
        (new(steps=slice(1, 3)), "new(steps=slice(1, 3, 1))"),
        (token("a", 3), "token('a', 3)"),
        (padding(), "at('padding')"),
        (at(len), "at(len)"),
    ],
)
def test_selectors_print_as_they_are_made(selector, text):
    assert repr(selector) == text


@pytest.mark.parametrize("position", [at(len), at(len) | at(0), ~at(len), len])
def test_no_file_holds_a_function(position):
    with pytest.raises(StoreError, match="is a function, which a file cannot hold: use the other positions"):
        to_data(position)
    with pytest.raises(StoreError, match="no position that this version knows"):
        from_data({"kind": "Nothing"})


@pytest.mark.parametrize("position", [1, -2, 5, -6])
def test_a_row_that_is_too_short_is_named(position):
    words = rf"no position {position}: row 2 has 1 tokens \(0-0\)"
    with pytest.raises(HookPointError, match=words):
        position_mask(position, padded(LENGTHS, "left"))


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (at("image", 1), r"no image 1 in row 12: it has 1 \(0-0\); at\('image', 1, optional=True\) leaves such"),
        (at("image", -2), r"no image -2 in row 12: it has 1"),
        (at("image", 2), r"no image 2 in row 10: it has 2 \(0-1\)"),
        (find("Y"), r"nothing in row 11 matches find\('Y'\): its text begins 'ab' \(optional=True leaves such rows"),
        (re.compile("c.?a"), r"nothing in row 11 matches find\(re.compile\('c\.\?a', 32\)\): its text begins 'ab'"),
        (token("X"), r"row 11 has no token of token\('X'\) \(optional=True leaves such rows alone\)"),
        (chars(9), "no characters 9:None in row 10: its text has 5"),
        (chars(2, 3), "no characters 2:3 in row 11: its text has 1"),
        (9, r"no position 9: row 11 has 2 tokens"),
    ],
)
def test_rows_without_such_a_token_are_named(position, words):
    with pytest.raises(HookPointError, match=words):
        position_mask(position, Known(ROWS, "left", CUTS).tokens(first=10))


@pytest.mark.parametrize("position", ["user", find("a"), chars(0), token("a"), at("image", 0)])
def test_tokens_that_nothing_is_known_of(position):
    with pytest.raises(HookPointError, match="ids, images and text of these tokens are not known"):
        position_mask(position, padded(LENGTHS, "left"))
    with pytest.raises(HookPointError, match="ids, images and text of new tokens are not known"):
        _ = padded(LENGTHS, "left").new_token().ids


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (torch.ones(3, 5), r"returned torch.float32 \(3, 5\): a position's function returns a bool tensor of shape"),
        (torch.ones(3, dtype=torch.bool), r"returned torch.bool \(3,\)"),
        (True, "returned bool: a position's function returns a bool tensor of shape"),
    ],
)
def test_what_a_function_must_return(result, words):
    with unchecked(), pytest.raises(InputError, match=words):
        position_mask(lambda tokens: result, padded(LENGTHS, "left"))


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (
            "lst",
            r"no position 'lst': use one of last, all, first, prompt, image, text, system, user, assistant, generated,"
            r" padding, an int or a slice \(did you mean 'last'\?\)",
        ),
        ("violin", r"an int or a slice; to look for words use ci.positions.find\('violin'\)"),
        (1.5, "a position is a name, an int, a slice, a regular expression, a function or made by .*, not float"),
        (True, "not bool"),
        (None, "not NoneType"),
        (slice(0, 4, 2), "a slice of positions has no step"),
    ],
)
def test_what_is_no_position(position, words):
    with unchecked():
        with pytest.raises(HookPointError, match=words):
            check_position(position)
        with pytest.raises(HookPointError, match=words):
            at(0) | position
        with pytest.raises(HookPointError, match=words):
            position & at(0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: at("text", 1), r"at\('text', 1\): only 'image' takes a number, an int: at\('image', 1\)"),
        (lambda: at("image", True), "only 'image' takes a number, an int"),
        (lambda: at("image", optional=True), "'image' is never missing: leave optional= out"),
        (lambda: find(""), r"find\(''\): give some words, or a regular expression made by re.compile"),
        (lambda: find(3), r"find\(3\): give some words"),
        (lambda: token(), r"token\(...\) takes ids or tokens of the vocabulary"),
        (lambda: token(1.5), r"token\(...\) takes ids or tokens of the vocabulary"),
        (lambda: new(first=1, steps=[1]), r"new\(first=..., steps=...\): give one of the two"),
        (lambda: new(first=-1), "new tokens are counted from 0, and their number is not known before: not -1"),
        (lambda: new(steps=[0, -1]), "counted from 0, .* not -1"),
        (lambda: new(steps=slice(-2, None)), "counted from 0, .* not -2"),
        (lambda: new(steps=slice(0, 4, 0)), "counted from 0, .* not 0"),
        (lambda: new(steps=[1.5]), "counted from 0, .* not 1.5"),
    ],
)
def test_what_makes_no_position(make, words):
    with unchecked(), pytest.raises(HookPointError, match=words):
        make()
