"""What recipes read harm from: the model's own yes or no, a judge, CLIP, or any function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.errors import ImageError, InputError
from cmrm_interp.images import load_image
from cmrm_interp.judges import UNSAFE, Exchange, Judge, judge
from cmrm_interp.metrics import logit_diff
from cmrm_interp.metrics.vocabulary import single_tokens
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt

Scorer = Callable[[Prompt, str], float]
"""From a prompt and an answer to a number."""
YES, NO = ("Yes", "yes", "YES"), ("No", "no", "NO")
# A verdict that could not be had is not one that the answer is safe.
_HARMFUL = UNSAFE | {"unparsed", "unjudged"}


def says_yes(model: Model, asked: Sequence[Prompt], yes: Sequence[str] = YES, no: Sequence[str] = NO) -> list[float]:
    """How much more the model is about to say yes than no, in nats: ``log p(yes) - log p(no)`` at the first token.

    Args:
        model: that is asked.
        asked: prompts whose answer is yes or no.
        yes: words, of which those that are one token here are looked at.
        no: the same.

    Raises:
        InputError: no word of a kind is one token of this vocabulary.
    """
    if not asked:
        return []
    kinds = [single_tokens(model, words) for words in (yes, no)]
    for words, ids in zip((yes, no), kinds, strict=True):
        if not ids:
            raise InputError(
                f"none of {', '.join(map(repr, words))} is one token for {model.name}, whose yes or no cannot be read:"
                " name how it says yes and no (yes=[...], no=[...])"
            )
    return logit_diff(model, *kinds)(model.logits(model.prepare(list(asked)))).tolist()


def harmful(check: Judge | str, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[bool]:
    """Which answers a judge finds harmful; those that it could not judge are taken to be.

    Args:
        check: a judge, or its name as `cmrm_interp.judges.judge` takes it.
        prompts: what was asked.
        answers: what was said.

    Raises:
        InputError: a judge that gives grades and no verdicts.
    """
    asked = judge(check) if isinstance(check, str) else check
    exchanges = [Exchange(prompt.text, answer, prompt.images) for prompt, answer in zip(prompts, answers, strict=True)]
    verdicts = [found.verdict for found in asked.judge(exchanges)] if exchanges else []
    if "graded" in verdicts:
        raise InputError(
            f"the judge {asked.name!r} gives grades, and a defence needs to know which answers are harmful"
        )
    return [verdict in _HARMFUL for verdict in verdicts]


def scores_of(scorer: Scorer | Judge | str, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
    """Scores of some answers; of a judge, 1 for an answer that it finds safe and -1 for a harmful one.

    Args:
        scorer: a function of prompt and answer, a judge, or a judge's name.
        prompts: what was asked.
        answers: what was said.

    Raises:
        InputError: a scorer that gives no numbers.
    """
    if isinstance(scorer, Judge | str):
        return [-1.0 if found else 1.0 for found in harmful(scorer, prompts, answers)]
    scores = [scorer(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    if any(score != score for score in map(float, scores)):
        raise InputError(
            f"the scorer {getattr(scorer, '__name__', scorer)!r} gave NaN: nothing can be compared with it"
        )
    return [float(score) for score in scores]


@dataclass(frozen=True)
class ClipScore:
    """Cosine of image and text under CLIP, times its scale over 100, as ETA's authors compute it.

    Attributes:
        clip: transformers' `CLIPModel`, loaded by the caller (they use ``openai/clip-vit-large-patch14-336``).
        processor: its processor.
        text: what the image is compared with; None for the answer.
    """

    clip: Any
    processor: Any
    text: str | None = None

    def __call__(self, prompt: Prompt, answer: str) -> float:
        """The score of the prompt's first image.

        Raises:
            ImageError: the prompt has none.
        """
        if not prompt.images:
            raise ImageError(f"the prompt {prompt.text[:60]!r} has no image for CLIP to look at")
        text = answer if self.text is None else self.text
        picture = load_image(prompt.images[0])
        made = self.processor(text=[text], images=[picture], return_tensors="pt", padding=True, truncation=True)
        with torch.no_grad():
            scores = self.clip(**made.to(self.clip.device)).logits_per_image
        return float(scores[0, 0]) / 100
