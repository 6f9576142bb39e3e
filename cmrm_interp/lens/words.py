"""The text of tokens."""

from typing import Any

from cmrm_interp.axes import Int, Tensor


def token_texts(tokenizer: Any, ids: Int[Tensor, " n"]) -> list[str]:
    """Text of tokens, one by one; pieces of a character as the vocabulary writes them, ids without a tokenizer."""
    texts = {i: f"#{i}" if tokenizer is None else _text(tokenizer, i) for i in ids.unique().tolist()}
    return [texts[i] for i in ids.tolist()]


def _text(tokenizer: Any, i: int) -> str:
    text = tokenizer.decode([i])
    return text if text.strip() and "\ufffd" not in text else str(tokenizer.convert_ids_to_tokens(i))
