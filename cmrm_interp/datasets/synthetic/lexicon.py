"""Every token that the synthetic world can say: the vocabulary of whoever learns its language."""

import re
from collections.abc import Iterator

from cmrm_interp.datasets.synthetic.pictures import (
    CAPTION_PROMPTS,
    CELLS,
    NUMBERS,
    SHAPES,
    Shape,
    caption,
    count_question,
    shape_questions,
)
from cmrm_interp.datasets.synthetic.requests import (
    KINDS,
    REFUSAL,
    every_request,
    noun_questions,
    verb_questions,
)
from cmrm_interp.datasets.synthetic.words import COLORS, SPLITS, WORLD


def _texts() -> Iterator[str]:
    """Texts which together hold every token of the world, and little else."""
    yield from (REFUSAL, *CAPTION_PROMPTS, caption(()), *NUMBERS, "and")
    for kind in KINDS:
        for split in SPLITS:
            for request in every_request(kind, split):
                yield from (request.text, request.answer)
    for word in WORLD.values():
        for question in noun_questions(word) if word.group in ("hazard", "harmless") else verb_questions(word):
            yield from (question.text, question.answer)
    for shape, color, cell in zip(SHAPES * 3, COLORS * 2, range(12), strict=True):
        thing = Shape(cell % len(CELLS), shape, color)
        for text, answer in (count_question([thing]), *shape_questions(thing)):
            yield from (text, answer)


def split_tokens(text: str) -> list[str]:
    """Lower-case words and punctuation marks of a text, as the organism's tokenizer splits it.

    Args:
        text: any text without special tokens.
    """
    return re.findall(r"\w+|[^\w\s]", text.lower())


def lexicon() -> list[str]:
    """All tokens of the world, sorted."""
    return sorted({token for text in _texts() for token in split_tokens(text)})
