"""An answer made sentence by sentence, each the best of several that were drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.encoding.continued import continued
from cmrm_interp.errors import InputError
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt

Score = Callable[["Round"], Sequence[float]]
_REFUSED = ("num_beams", "num_return_sequences", "stop_strings", "streamer")
# Far apart, so that rounds of neighbouring seeds do not draw alike.
_APART = 1_000_003


@dataclass(frozen=True)
class Sampling:
    """How candidates of the next sentence are drawn.

    Attributes:
        n: candidates.
        top_k: likeliest tokens that are drawn from.
        temperature: of the drawing.
        tokens: of a sentence at most.
        end: a sentence ends with it.
        seed: of the drawing.
    """

    n: int
    top_k: int
    temperature: float
    tokens: int
    end: str
    seed: int


@dataclass(frozen=True)
class Round:
    """Candidates of one sentence.

    Attributes:
        number: of the sentence, from 1.
        answers: with everything before the sentence.
        sentences: alone.
        over: whether any candidate ends the answer.
    """

    number: int
    answers: Sequence[str]
    sentences: Sequence[str]
    over: bool


def sentence_by_sentence(
    model: Model, prompt: Prompt, prefix: str, score: Score, sampling: Sampling, generation: Mapping[str, Any]
) -> str:
    """An answer that begins with a prefix; of the candidates of each sentence the one with the highest score stays.

    Args:
        model: that answers.
        prompt: what to.
        prefix: the answer's first words.
        score: of the candidates of a round, the higher the better; of equal ones the first stays.
        sampling: how candidates are drawn.
        generation: as `Model.generate` takes it; ``max_new_tokens`` is of the whole answer after the prefix.

    Raises:
        InputError: arguments of generation that drawing sentences leaves no room for.
    """
    check_generation(generation)
    how = {name: value for name, value in generation.items() if name not in (*_REFUSED, "seed", "top_p")}
    room, ends = how.pop("max_new_tokens", 64), _ends(model, how)
    tensors, decode = model.prepare([prompt]).tensors, model.tokenizer.decode
    said: list[int] = model.tokenizer(prefix, add_special_tokens=False).input_ids
    over, number = False, 0
    while room > 0 and not over:
        number += 1
        new = torch.tensor([said], dtype=torch.long)
        begun = model.from_encoding(continued(tensors, new, one_way=model.network.family.one_way))
        tokens = _drawn(model, begun, sampling, number, {**how, "max_new_tokens": min(room, sampling.tokens)})
        cut = [_cut(model, ids, sampling.end, ends) for ids in tokens]
        sentences = [decode(ids, skip_special_tokens=True) for ids, _ in cut]
        answers = [decode([*said, *ids], skip_special_tokens=True) for ids, _ in cut]
        scores = score(Round(number, answers, sentences, any(last for _, last in cut)))
        best, over = cut[max(range(len(cut)), key=lambda row: scores[row])]
        said, room = [*said, *best], room - max(1, len(best))
    return decode(said, skip_special_tokens=True)


def _drawn(model: Model, begun: Any, sampling: Sampling, number: int, how: Mapping[str, Any]) -> list[list[int]]:
    image, forbidden = model.encoder.image_token, list(how.get("suppress_tokens") or ())
    asked = {
        **how,
        # An image token would stand for an image that there is not.
        "suppress_tokens": forbidden + ([] if image is None else [image]) or None,
        "do_sample": True,
        "num_return_sequences": sampling.n,
        "top_k": sampling.top_k,
        "temperature": sampling.temperature,
        "stop_strings": sampling.end,
        "seed": sampling.seed + _APART * number,
    }
    return model.generate_tokens(begun, **asked).tolist()


def _cut(model: Model, ids: list[int], end: str, ends: Sequence[int]) -> tuple[list[int], bool]:
    """A candidate without what fills its row, and whether it ends the answer."""
    for place, token in enumerate(ids):
        if token in ends:
            return ids[:place], True
        if end in model.tokenizer.decode(ids[: place + 1]):
            return ids[: place + 1], False
    return ids, False


def check_generation(generation: Mapping[str, Any]) -> None:
    """Refuse arguments of generation that drawing sentences leaves no room for.

    Raises:
        InputError: the first of them.
    """
    for name in _REFUSED:
        if generation.get(name) not in (None, 1):
            raise InputError(f"{name}={generation[name]!r}: sentences are drawn one by one here, leave it out")


def _ends(model: Model, how: Mapping[str, Any]) -> list[int]:
    end = how.get("eos_token_id", model.hf.generation_config.eos_token_id)
    return list(end) if isinstance(end, list | tuple) else [] if end is None else [end]
