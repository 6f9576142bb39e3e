"""Texts with places to fill: what a recipe asks a model, and how it words a request anew."""

from collections.abc import Sequence
from string import Formatter

from cmrm_interp.errors import InputError


def check_wording(recipe: object, optional: tuple[str, ...] = (), **places: tuple[str, ...]) -> None:
    """Refuse a text of a recipe that has not the places which will be filled, or has others.

    Args:
        recipe: has the texts.
        optional: settings whose texts may leave places out.
        **places: name of a setting, and the places of its text, such as ``("text", "answer")``.

    Raises:
        InputError: a place is missing, so that something would be left out of the prompt, or is one too many.
    """
    for name, wanted in places.items():
        text = getattr(recipe, name)
        there = {place for _, place, _, _ in Formatter().parse(text) if place is not None}
        if there - set(wanted) or (name not in optional and there != set(wanted)):
            told = " and ".join(f"{{{place}}}" for place in wanted)
            raise InputError(
                f"{type(recipe).__name__}({name}={text!r}): this text needs the places {told}, each at least once, and"
                f" no other (it has {', '.join(sorted(there)) or 'none'}); write {{{{ }}}} for braces of the text"
            )


def words(given: str | Sequence[str]) -> tuple[str, ...]:
    """One word or several as a tuple; a text is one word, and not its letters."""
    return (given,) if isinstance(given, str) else tuple(given)
