"""The scorer of what a recipe costs the model's language, on the provider's own loaded model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from inspect_ai.model import get_model
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from cmrm_interp.evaluation.answering import Answerer, LocalAnswerer, Said
from cmrm_interp.evaluation.messages import prompt_of
from cmrm_interp.evaluation.provider import CmrmAPI
from cmrm_interp.evaluation.utility import clean_numbers
from cmrm_interp.prompts import Prompt


@metric(name="means", scores="unreduced")
def means() -> Metric:
    """Mean of each number over the answers that have it."""

    def _means(scores: list[SampleScore]) -> dict[str, float]:
        rows = [one.score.value for one in scores if isinstance(one.score.value, dict)]
        return {name: fmean(row[name] for row in rows if name in row) for name in _names(rows)}  # type: ignore[misc]

    return _means


@scorer(metrics=[means()], name="fluency")
def fluency() -> Scorer:
    """Perplexity of the answer under the clean model, and KL divergence from it at the first token.

    See `cmrm_interp.evaluation.utility.clean_numbers`. The model is the one that the provider has loaded, and answers
    wait in its queue, so that they run in batches. Answers of other providers have no such numbers.
    """
    known: dict[int, _Clean] = {}

    async def _score(state: TaskState, target: Target) -> Score | None:
        api = get_model().api
        if not isinstance(api, CmrmAPI) or not state.output.choices:
            return None
        # The queue tells who is asked by identity.
        clean = known.setdefault(id(api), _Clean(api))
        asked = _asked(state)
        answered = Given(asked.text, asked.image, asked.system, asked.history, state.output.completion)
        said = await api.ask(clean, answered)
        return Score(value=dict(said.numbers)) if said.numbers else None

    return _score


@dataclass(frozen=True)
class Given(Prompt):
    """A prompt with the answer that was given to it."""

    answer: str = ""


class _Clean(Answerer):
    """Says nothing, and measures what was said."""

    def __init__(self, api: CmrmAPI) -> None:
        self.api = api

    def answer(self, prompts: Sequence[Prompt], generation: Mapping[str, Any]) -> list[Said]:
        """Numbers of the answers that the prompts bring; no answers of its own."""
        by = self.api.answerer
        if not isinstance(by, LocalAnswerer):
            return [Said("") for _ in prompts]
        answers = [prompt.answer for prompt in prompts if isinstance(prompt, Given)]
        return [Said("", numbers=row) for row in clean_numbers(by.model, by.recipe, prompts, answers)]

    def about(self) -> Mapping[str, Any]:
        """What there is to know of the model."""
        return self.api.answerer.about()

    def close(self) -> None:
        """Nothing of its own is open."""
        return


def _asked(state: TaskState) -> Prompt:
    messages = [message for message in state.messages if message.role != "tool"]
    while messages and messages[-1].role == "assistant":
        messages.pop()
    return prompt_of(messages)


def _names(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from dict.fromkeys(name for row in rows for name in row)
