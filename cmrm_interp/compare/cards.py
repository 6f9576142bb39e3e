"""The registered recipes as a table, from what each says of itself."""

from cmrm_interp.recipes import RECIPES, Recipe
from cmrm_interp.records import markdown as table

_ANCHORS = {"none": "none", "any": "any prompts", "both": "both classes"}
_HEAD = ("name", "method", "what it does", "fitted on", "source", "how sure the formula is")
OWN = "this package"


def rows() -> list[tuple[str, ...]]:
    """A row a registered recipe: name, title, claim, anchors, paper, how sure its formula is."""
    return [_row(name, kind) for name, kind in sorted(RECIPES.items())]


def markdown() -> str:
    """The table of the documentation."""
    return table(_HEAD, [[f"`{row[0]}`", *row[1:]] for row in rows()]) + "\n"


def _row(name: str, kind: type[Recipe]) -> tuple[str, ...]:
    card = kind.card
    assert card is not None
    number = f"[{card.arxiv}](https://arxiv.org/abs/{card.arxiv})" if card.arxiv else ""
    source = ", ".join(part for part in (card.paper, number) if part) or OWN
    words = (card.title, card.claim, _ANCHORS[card.wants], source, card.sure or "-")
    return (name, *(" ".join(part.split()).replace("|", "\\|") for part in words))
