"""What may be given as a position, and how it becomes a selector; the functions that make selectors."""

import difflib
import re
from collections.abc import Callable, Iterable

from cmrm_interp.axes import Bool, Tensor
from cmrm_interp.errors import HookPointError
from cmrm_interp.positions.base import Selector
from cmrm_interp.positions.kinds import (
    NAMED,
    Chars,
    Custom,
    Find,
    Index,
    Named,
    New,
    OfVocabulary,
    OneImage,
    Stretch,
)
from cmrm_interp.positions.tokens import Tokens

Position = str | int | slice | re.Pattern[str] | Selector | Callable[[Tokens], Tensor]


def at(where: Position, number: int | None = None, optional: bool = False) -> Selector:
    """A position as a value, which can be joined with others by ``|``, ``&`` and ``~``.

    Args:
        where: a name, an int or a slice over real tokens, a regular expression, or a function of `Tokens`.
        number: with ``"image"``: which image of each row, from 0; negative numbers count from the last.
        optional: with a number, an int or a regular expression: leave rows that have no such token alone.

    Raises:
        HookPointError: not a position, or a number where none belongs.
    """
    selector = as_selector(where)
    if number is not None:
        if selector != Named("image") or isinstance(number, bool) or not isinstance(number, int):
            raise HookPointError(f"at({where!r}, {number!r}): only 'image' takes a number, an int: at('image', 1)")
        return OneImage(number, optional)
    if not optional:
        return selector
    if isinstance(selector, Index):
        return Index(selector.number, True)
    if isinstance(selector, Find):
        return Find(selector.pattern, selector.flags, True)
    raise HookPointError(f"at({where!r}, optional=True): {where!r} is never missing: leave optional= out")


def find(what: str | re.Pattern[str], optional: bool = False) -> Selector:
    """Tokens that overlap some words of the prompt, every time they occur in the text as the model sees it.

    Args:
        what: words, taken literally, or a compiled regular expression.
        optional: leave rows without a match alone; otherwise they are an error.

    Raises:
        HookPointError: nothing to look for.
    """
    if isinstance(what, re.Pattern):
        return Find(what.pattern, what.flags, optional)
    if not isinstance(what, str) or not what:
        raise HookPointError(f"find({what!r}): give some words, or a regular expression made by re.compile")
    return Find(what, None, optional)


def chars(start: int, stop: int | None = None) -> Selector:
    """Tokens that overlap some characters of the user's text (`Prompt.text`), given as of a Python slice."""
    return Chars(start, stop)


def token(*tokens: str | int, optional: bool = False) -> Selector:
    """Prompt tokens that are one of some tokens of the vocabulary.

    Args:
        *tokens: ids, or tokens as the vocabulary writes them (``"▁cat"``, ``"<row_1_col_1>"``).
        optional: leave rows without any alone; otherwise they are an error.

    Raises:
        HookPointError: no token given.
    """
    if not tokens or any(isinstance(one, bool) or not isinstance(one, str | int) for one in tokens):
        raise HookPointError("token(...) takes ids or tokens of the vocabulary: token('<row_1_col_1>', 42)")
    return OfVocabulary(tokens, optional)


def new(first: int | None = None, steps: int | slice | Iterable[int] | None = None) -> Selector:
    """New tokens of a generation; the first new token is number 0.

    Args:
        first: the first so many; None for no limit.
        steps: a number, a slice or several numbers of new tokens.

    Raises:
        HookPointError: both, or a negative number (how many new tokens there will be is not known before).
    """
    if first is not None and steps is not None:
        raise HookPointError("new(first=..., steps=...): give one of the two")
    if first is not None or steps is None:
        return New(stop=_counted(first))
    if isinstance(steps, slice):
        start, stop = _counted(steps.start) or 0, _counted(steps.stop)
        return New(start, stop, _counted(steps.step, 1) or 1)
    numbers = [steps] if isinstance(steps, int) else list(steps)
    return New(among=tuple(sorted({n for n in map(_counted, numbers) if n is not None})))


def padding() -> Selector:
    """Columns that hold no token, of which a model should not make anything."""
    return Named("padding")


def as_selector(position: Position) -> Selector:
    """A position as a selector.

    Raises:
        HookPointError: an unknown name, a slice with a step, or another type.
    """
    if isinstance(position, Selector):
        return position
    if isinstance(position, str):
        if position not in NAMED:
            raise HookPointError(_unknown(position))
        return Named(position)
    if isinstance(position, slice):
        if position.step not in (None, 1):
            raise HookPointError(f"a slice of positions has no step: {position}")
        return Stretch(position.start, position.stop)
    if isinstance(position, re.Pattern):
        return find(position)
    if isinstance(position, int) and not isinstance(position, bool):
        return Index(position)
    if callable(position):
        return Custom(position)
    raise HookPointError(
        f"a position is a name, an int, a slice, a regular expression, a function or made by cmrm_interp.positions,"
        f" not {type(position).__name__}"
    )


def check_position(position: Position) -> None:
    """Refuse what is not a position.

    Raises:
        HookPointError: an unknown name, a slice with a step, or another type.
    """
    as_selector(position)


def simple(position: Position) -> Position:
    """A position in its simplest form: ``at("last")`` is ``"last"``, ``at(-1)`` is -1."""
    if isinstance(position, Named):
        return position.name
    if isinstance(position, Index) and not position.optional:
        return position.number
    if isinstance(position, Stretch):
        return slice(position.start, position.stop)
    return find(position) if isinstance(position, re.Pattern) else position


def position_mask(position: Position, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
    """Mask of the tokens that a position means.

    Args:
        position: see the table of `cmrm_interp.positions`.
        tokens: the tokens of the pass.

    Returns:
        True at the chosen tokens.

    Raises:
        HookPointError: not a position, or a row has no such token.
    """
    return as_selector(position).mask(tokens)


def _counted(number: int | None, least: int = 0) -> int | None:
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < least):
        raise HookPointError(f"new tokens are counted from 0, and their number is not known before: not {number!r}")
    return number


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, NAMED, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else f"; to look for words use ci.positions.find({name!r})"
    return f"no position {name!r}: use one of {', '.join(NAMED)}, an int or a slice{hint}"
