"""Where the turns of a conversation are in the text that a chat template made of them."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from cmrm_interp.positions import Said

# Of Unicode's private use, so that no prompt and no template has them.
_MARK = "\ue000{}\ue001"
_MARKED = re.compile("\ue000(\\d+)\ue001")


def find_turns(render: Callable[[list[dict[str, Any]]], str], turns: Sequence[dict[str, Any]], text: str) -> list[Said]:
    """The turns in the template's text, found by rendering the same turns with marks in place of what they say.

    Args:
        render: the chat template.
        turns: as templates take them, each with one part of text.
        text: what the template made of them.

    Returns:
        In the order of the text; empty if the template does not write down what is said as it is.
    """
    pieces = _MARKED.split(render([_marked(turn, number) for number, turn in enumerate(turns)]))
    said: list[Said] = []
    place = len(pieces[0])
    if not text.startswith(pieces[0]):
        return []
    for number, after in zip(map(int, pieces[1::2]), pieces[2::2], strict=True):
        given = _text(turns[number])
        written = _written(given, after, text, place)
        if written is None:
            return []
        skipped = len(given) - len(given.lstrip()) if not given.startswith(written) else 0
        stop = place + len(written)
        said.append(Said(turns[number]["role"], place, stop, skipped, len(given), number == len(turns) - 1))
        place = stop + len(after)
    return said if place == len(text) else []


def _written(given: str, after: str, text: str, place: int) -> str | None:
    # Many templates strip what is said.
    for written in (given, given.strip(), given.rstrip(), given.lstrip()):
        if text.startswith(written + after, place):
            return written
    return None


def _marked(turn: dict[str, Any], number: int) -> dict[str, Any]:
    parts = [{**part, "text": _MARK.format(number)} if part["type"] == "text" else part for part in turn["content"]]
    return {**turn, "content": parts}


def _text(turn: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in turn["content"])
