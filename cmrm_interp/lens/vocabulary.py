"""Tokens by their text, and the text of tokens."""

from collections.abc import Iterable, Sequence
from typing import Any

from cmrm_interp.axes import Int, Tensor
from cmrm_interp.errors import InputError


def token_ids(tokenizer: Any, tokens: str | int | Iterable[str | int], size: int) -> dict[str, int]:
    """Ids of tokens that were asked for, by the name under which they are reported.

    Args:
        tokenizer: of the model, or None (then ids alone can be asked for).
        tokens: ids, tokens as the vocabulary writes them, or texts that are one token (``" cat"``); one or several.
        size: tokens of the vocabulary.

    Raises:
        InputError: an id beyond the vocabulary, or a text that is no single token.
    """
    asked = [tokens] if isinstance(tokens, str | int) else list(tokens)
    return {str(one): _id(tokenizer, one, size) for one in asked}


def token_texts(tokenizer: Any, ids: Int[Tensor, " n"]) -> list[str]:
    """Text of tokens, one by one; pieces of a character as the vocabulary writes them, ids without a tokenizer."""
    texts = {i: f"#{i}" if tokenizer is None else _text(tokenizer, i) for i in ids.unique().tolist()}
    return [texts[i] for i in ids.tolist()]


def _id(tokenizer: Any, token: str | int, size: int) -> int:
    if isinstance(token, int):
        if isinstance(token, bool) or not 0 <= token < size:
            raise InputError(f"no token {token!r}: the vocabulary has ids 0 to {size - 1}")
        return token
    if tokenizer is None:
        raise InputError(f"token {token!r}: this model was loaded without a tokenizer, so give ids")
    known = tokenizer.get_vocab()
    if token in known:
        return known[token]
    pieces: Sequence[int] = tokenizer.encode(token, add_special_tokens=False)
    if len(pieces) == 1 and pieces[0] != tokenizer.unk_token_id:
        return pieces[0]
    made = ", ".join(repr(piece) for piece in tokenizer.convert_ids_to_tokens(pieces))
    raise InputError(
        f"{token!r} is no single token of this vocabulary but {made or 'nothing'}: ask for one of its pieces, or with"
        " a space in front"
    )


def _text(tokenizer: Any, i: int) -> str:
    text = tokenizer.decode([i])
    return text if text.strip() and "\ufffd" not in text else str(tokenizer.convert_ids_to_tokens(i))
