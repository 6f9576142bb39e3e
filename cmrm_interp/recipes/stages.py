"""Answering in stages: some prompts once more, in other words."""

from collections.abc import Mapping, Sequence
from typing import Any

from cmrm_interp.errors import InputError
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt


def answered_again(
    model: Model, answers: Sequence[str], worded: Mapping[int, Prompt], generation: Mapping[str, Any]
) -> list[str]:
    """Answers with those of some prompts replaced by new ones, all in one call.

    Args:
        model: that answers.
        answers: of the first stage.
        worded: row to the prompt that is asked in its place.
        generation: as `Model.generate` takes it.
    """
    said = list(answers)
    if worded:
        rows = list(worded)
        new = model.generate(model.prepare(list(worded.values())), **generation_of(generation, rows))
        for row, answer in zip(rows, new, strict=True):
            said[row] = answer
    return said


def one_answer(recipe: object, generation: Mapping[str, Any]) -> None:
    """Refuse several answers a prompt, which a recipe that looks at each prompt's answer would mix up.

    Raises:
        InputError: several are asked for.
    """
    given = getattr(generation.get("generation_config"), "num_return_sequences", None)
    n = generation.get("num_return_sequences", given)
    if n not in (None, 1):
        raise InputError(
            f"num_return_sequences={n}: {type(recipe).__name__} looks at one answer a prompt; leave it out, and call"
            " generate again with another seed"
        )


def generation_of(generation: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Arguments of `Model.generate` for some of the prompts, each with a seed that the others do not change."""
    seed = generation.get("seed")
    if seed is None:
        return dict(generation)
    own = [seed[row] if isinstance(seed, Sequence) else seed + row for row in rows]
    return {**generation, "seed": own}
