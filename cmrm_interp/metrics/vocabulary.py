"""Tokens of the vocabulary, given as strings or ids."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from cmrm_interp.errors import InputError, ModelError

TokenLike = str | int
OneOrMore = TokenLike | Iterable[TokenLike]


def token_ids(model: Any, tokens: OneOrMore) -> tuple[int, ...]:
    """Ids of some tokens, sorted, without repeats.

    Args:
        model: has a ``tokenizer`` (needed for strings) and ``hf``.
        tokens: a string or id, or several; each string must be one token, exactly as written (mind the space before
            a word: ``" yes"`` and ``"yes"`` are two tokens of many vocabularies).

    Raises:
        InputError: none, a string that is several tokens or unknown, or an id outside the vocabulary.
        ModelError: a string, and the model has no tokenizer.
    """
    several = listed(tokens)
    if not several:
        raise InputError("no tokens: give at least one, as a string or an id")
    return tuple(sorted({_id(model, token) for token in several}))


def listed(tokens: OneOrMore) -> list[TokenLike]:
    """One token or several as a list; arrays and tensors of ids, such as ``logits.argmax()``, as their numbers."""
    plain = tokens.tolist() if isinstance(tokens, torch.Tensor | np.ndarray | np.generic) else tokens
    return list(plain) if isinstance(plain, Iterable) and not isinstance(plain, str) else [plain]


def single_tokens(model: Any, words: Sequence[str]) -> tuple[int, ...]:
    """Ids of those of some words that are one known token."""
    found = (_pieces(model, word) for word in words)
    return tuple(sorted({ids[0] for ids in found if len(ids) == 1 and ids[0] != model.tokenizer.unk_token_id}))


def shown(model: Any, ids: Iterable[int]) -> str:
    """Tokens as a reader knows them."""
    if model.tokenizer is None:
        return ", ".join(map(str, ids))
    return ", ".join(repr(model.tokenizer.decode([token])) for token in ids)


def _id(model: Any, token: TokenLike) -> int:
    if isinstance(token, str):
        return _of_word(model, token)
    size = model.hf.config.get_text_config().vocab_size
    number = -1 if isinstance(token, bool | float) else operator.index(token)
    if not 0 <= number < size:
        raise InputError(f"no token {token!r}: ids of this vocabulary are 0 to {size - 1}")
    return number


def _of_word(model: Any, word: str) -> int:
    ids = _pieces(model, word)
    if len(ids) != 1:
        parts = f"{len(ids)} tokens ({shown(model, ids)})" if ids else "no token"
        raise InputError(f"{word!r} is {parts} in this vocabulary: give a string that is one token, or an id")
    if ids[0] == model.tokenizer.unk_token_id and word != model.tokenizer.unk_token:
        raise InputError(f"{word!r} is not in this vocabulary (it becomes {model.tokenizer.unk_token!r})")
    return ids[0]


def _pieces(model: Any, word: str) -> list[int]:
    if model.tokenizer is None:
        raise ModelError(f"{word!r} is a string and this model was loaded without a tokenizer: give ids")
    return model.tokenizer.encode(word, add_special_tokens=False)
