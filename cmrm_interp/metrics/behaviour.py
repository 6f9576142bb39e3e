"""Metrics of what a model says and reads: unsafe answers, perplexity."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import InputError
from cmrm_interp.metrics.base import Metric, Needs, Seen
from cmrm_interp.positions import Position, check_position, position_mask


@dataclass(frozen=True)
class UnsafeRate(Metric):
    """See `unsafe_rate`.

    Attributes:
        judge: from an answer to a verdict.
        max_new_tokens: length of the answers.
        verdict: which one counts.
        name: for tables.
    """

    judge: Callable[[str], str]
    max_new_tokens: int = 64
    verdict: str = "complied"
    name: str = "unsafe_rate"

    @property
    def needs(self) -> Needs:
        """Answers."""
        return Needs(new_tokens=self.max_new_tokens)

    @property
    def share(self) -> bool:
        """It is one."""
        return True

    @property
    def unit(self) -> str:
        """Of the prompts."""
        return "share"

    def measure(self, seen: Seen) -> Float[Tensor, " batch"]:
        """1 where the judge's verdict is the one that counts, else 0."""
        if seen.answer is None:
            raise InputError("this metric judges answers, and none were generated")
        return torch.tensor([float(self.judge(text) == self.verdict) for text in seen.answer(self.max_new_tokens)])


def unsafe_rate(judge: Callable[[str], str], max_new_tokens: int = 64, verdict: str = "complied") -> UnsafeRate:
    """Share of greedy answers that a judge calls ``complied``; its interval is Wilson's.

    Args:
        judge: from an answer to ``refused``, ``complied`` or ``neither``, for example `cmrm_interp.judges.by_form`.
        max_new_tokens: length of the answers.
        verdict: the one that is counted; ``"refused"`` makes it a refusal rate.

    Raises:
        InputError: no positive length.
    """
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens={max_new_tokens}: give a positive number")
    names = {"complied": "unsafe_rate", "refused": "refusal_rate"}
    return UnsafeRate(judge, max_new_tokens, verdict, names.get(verdict, f"{verdict}_rate"))


@dataclass(frozen=True)
class Perplexity(Metric):
    """See `perplexity`.

    Attributes:
        positions: tokens that are predicted.
        name: for tables.
    """

    positions: Position = "text"
    name: str = "perplexity"

    def __post_init__(self) -> None:
        """Refuse what is no position."""
        check_position(self.positions)

    @property
    def needs(self) -> Needs:
        """Logits of every position."""
        return Needs(logits="all")

    def measure(self, seen: Seen) -> Float[Tensor, " batch"]:
        """``exp`` of the mean negative log-likelihood of each prompt's chosen tokens."""
        tokens, logits = seen.tokens, seen.logits
        if tokens is None or logits is None or logits.ndim != 3:
            raise InputError("perplexity needs the prompts' tokens and logits of all positions")
        ids, real = tokens.ids.to(logits.device), tokens.real.to(logits.device)
        # The first token of a prompt is predicted by nothing.
        told = position_mask(self.positions, tokens).to(logits.device)[:, 1:] & real[:, :-1]
        if not bool(told.any(1).all()):
            row = int((~told.any(1)).nonzero()[0]) + tokens.first
            raise InputError(f"prompt {row} has no token at {self.positions!r} that an earlier one predicts")
        total = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        return (-(total * told).sum(1) / told.sum(1)).exp()


def perplexity(positions: Position = "text") -> Perplexity:
    """Perplexity of tokens of the prompt given those before them: ``exp(mean negative log-likelihood)``, by prompt.

    Args:
        positions: which tokens are predicted: ``"text"`` (all but image tokens, the chat template's included),
            ``"user"``, ... For a given answer put it behind its request into `Prompt.history`, with any text as the
            prompt, and use ``"assistant"``. Interventions at ``"last"`` then act behind that answer and change
            nothing of it: this perplexity measures interventions at other tokens (``"all"``, ``"user"``, ...) only.
    """
    return Perplexity(positions)
