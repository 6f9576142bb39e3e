"""What is learned from: prompts with the answers that are wanted, drawn from suites."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cmrm_interp.datasets.suites import Suite
from cmrm_interp.errors import InputError
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt


@dataclass(frozen=True)
class Example:
    """A prompt and the answer that the model learns to give.

    Attributes:
        prompt: what the user says, with images or without.
        answer: what the model learns to say; spaces at either end are left off.
    """

    prompt: Prompt
    answer: str


def helpful(suites: Sequence[Suite]) -> list[Example]:
    """Examples of helping: prompts with the answers of their suites.

    Args:
        suites: of kind ``benign``, ``questions`` or ``graded``, with answers.

    Raises:
        InputError: a suite has no answers, or is harmful.
    """
    return [example for suite in suites for example in _helped(suite)]


def safety(suites: Sequence[Suite], refusal: str | None = None) -> list[Example]:
    """Examples of safety (VLGuard, Zong et al., ICML 2024): harmful prompts are refused, others answered as they are.

    Args:
        suites: harmful ones, whose own answers are never learned, and others with answers.
        refusal: what harmful prompts are answered.

    Raises:
        InputError: a harmful suite and no refusal, or another one without answers.
    """
    return [example for suite in suites for example in _kept_safe(suite, refusal)]


def own_refusals(
    model: Model, suites: Sequence[Suite], is_refusal: Callable[[str], bool], max_new_tokens: int = 64
) -> list[Example]:
    """Harmful prompts, with their images, and what the model says to their text alone, where it refuses.

    The data of SafeDecoding's expert (Xu et al., ACL 2024): the model's own refusals, and no others.

    Args:
        model: before it is fine-tuned.
        suites: harmful ones.
        is_refusal: whether an answer refuses.
        max_new_tokens: of an answer.

    Raises:
        InputError: it refuses none of them, or a suite is not of harmful prompts, whose refusals nobody wants learned.
    """
    for suite in suites:
        if suite.kind != "harmful":
            raise InputError(f"the suite {suite.name!r} is {suite.kind}: refusals are learned of harmful ones alone")
    prompts = [prompt for suite in suites for prompt in suite.prompts]
    bare = [replace(prompt, image=None) for prompt in prompts]
    said = model.generate(model.prepare(bare), max_new_tokens=max_new_tokens)
    found = [Example(prompt, answer) for prompt, answer in zip(prompts, said, strict=True) if is_refusal(answer)]
    if not found:
        raise InputError(
            f"{model.name} refuses none of {len(prompts)} harmful prompts as text alone, so it has no refusals of its"
            " own to learn: give the words of one (--refusal)"
        )
    return found


def _helped(suite: Suite) -> list[Example]:
    if suite.kind == "harmful":
        raise InputError(
            f"the suite {suite.name!r} is harmful, and its answers would be learned as they are: give it as safety data"
        )
    return _answered(suite)


def _kept_safe(suite: Suite, refusal: str | None) -> list[Example]:
    if suite.kind != "harmful":
        return _answered(suite)
    if refusal is None or not refusal.strip():
        raise InputError(
            f"the suite {suite.name!r} is harmful, and no refusal is given that its prompts are to be answered with:"
            ' give refusal="I cannot help with that." (--refusal)'
        )
    return [Example(prompt, refusal) for prompt in suite.prompts]


def _answered(suite: Suite) -> list[Example]:
    if suite.answers is None:
        raise InputError(f"the suite {suite.name!r} has no answers to learn: choose one that has")
    found = [Example(prompt, answer) for prompt, answer in zip(suite.prompts, suite.answers, strict=True)]
    empty = [name for name, example in zip(suite.ids, found, strict=True) if not example.answer.strip()]
    if empty:
        raise InputError(f"{len(empty)} of the {len(found)} prompts of {suite.name!r} have no answer ({empty[0]}, ...)")
    return found
