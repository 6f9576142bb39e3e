"""Metrics of the next token's logits: logit difference, probability, refusal score, KL to the clean model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import InputError
from cmrm_interp.metrics.base import Metric, Needs, NextToken, Seen
from cmrm_interp.metrics.vocabulary import OneOrMore, TokenLike, shown, single_tokens, token_ids

OPENINGS = ("I", "As", "Sorry", "sorry")
"""How refusals begin: those of Arditi et al. (arXiv 2406.11717, appendix B), and "sorry"."""


@dataclass(frozen=True)
class LogitDiff(NextToken):
    """See `logit_diff`.

    Attributes:
        yes, no: ids.
        name: for tables.
    """

    yes: tuple[int, ...]
    no: tuple[int, ...]
    name: str = "logit_diff"

    @property
    def unit(self) -> str:
        """Logits are natural logarithms."""
        return "nats"

    def measure(self, seen: Seen) -> Float[Tensor, " batch"]:
        """Difference of the logits, or of their log-sum-exp over each set."""
        return _total(seen.last, self.yes) - _total(seen.last, self.no)


def logit_diff(model: Any, yes: OneOrMore, no: OneOrMore) -> LogitDiff:
    """Logit of one token less that of another; of sets, log-sum-exp over each: ``log p(yes) - log p(no)``.

    Args:
        model: whose vocabulary it is.
        yes: a token, as a string or id, or several.
        no: the same.

    Raises:
        InputError: a string that is not one token, an id outside the vocabulary, or a token on both sides.
    """
    ours, theirs = token_ids(model, yes), token_ids(model, no)
    both = sorted(set(ours) & set(theirs))
    if both:
        raise InputError(f"{shown(model, both)} is on both sides of logit_diff: leave it out on one")
    return LogitDiff(ours, theirs)


@dataclass(frozen=True)
class Probability(NextToken):
    """See `probability`.

    Attributes:
        ids: of the tokens.
        name: for tables.
    """

    ids: tuple[int, ...]
    name: str = "probability"

    def measure(self, seen: Seen) -> Float[Tensor, " batch"]:
        """``softmax(logits)[ids].sum()``."""
        return seen.last.softmax(-1)[:, list(self.ids)].sum(-1)


def probability(model: Any, token: OneOrMore) -> Probability:
    """Probability that the next token is this one, or one of these.

    Args:
        model: whose vocabulary it is.
        token: as a string or id, or several.

    Raises:
        InputError: a string that is not one token, or an id outside the vocabulary.
    """
    return Probability(token_ids(model, token))


@dataclass(frozen=True)
class RefusalScore(NextToken):
    """See `refusal_score`.

    Attributes:
        ids: of the tokens that refusals begin with.
        name: for tables.
    """

    ids: tuple[int, ...]
    name: str = "refusal_score"

    @property
    def unit(self) -> str:
        """Log-odds."""
        return "nats"

    def measure(self, seen: Seen) -> Float[Tensor, " batch"]:
        """Log-odds, from sums over either side, so that nothing is taken from 1."""
        others = torch.ones(seen.last.shape[-1], dtype=torch.bool, device=seen.last.device)
        others[list(self.ids)] = False
        return _total(seen.last, self.ids) - seen.last[:, others].logsumexp(-1)


def refusal_score(model: Any, tokens: Iterable[TokenLike] | None = None) -> RefusalScore:
    """Log-odds that the answer begins as a refusal does: ``log p(R) - log(1 - p(R))``; above 0 it more likely does.

    Arditi et al., "Refusal in Language Models Is Mediated by a Single Direction" (arXiv 2406.11717), section 2.3.

    Args:
        model: whose vocabulary it is.
        tokens: what refusals begin with, as strings or ids. None takes those of "I", "As", "Sorry" and "sorry" that
            are one token here; look at how your model refuses, and name them.

    Raises:
        InputError: a string that is not one token, or none of the default ones is.
    """
    if tokens is not None:
        return RefusalScore(token_ids(model, tokens))
    ids = single_tokens(model, OPENINGS) if model.tokenizer is not None else ()
    if not ids:
        raise InputError(
            f"none of {', '.join(map(repr, OPENINGS))} is one token here: name what refusals begin with (tokens=[...])"
        )
    return RefusalScore(ids)


@dataclass(frozen=True)
class KLToClean(Metric):
    """See `kl_to_clean`.

    Attributes:
        name: for tables.
    """

    name: str = "kl_to_clean"

    @property
    def needs(self) -> Needs:
        """Logits of the next token, with the intervention and without."""
        return Needs(logits="last", clean=True)

    @property
    def unit(self) -> str:
        """Natural logarithms."""
        return "nats"

    def measure(self, seen: Seen) -> Float[Tensor, " batch"]:
        """``sum p_clean (log p_clean - log p)``; tokens that the clean model rules out count nothing."""
        if seen.clean is None:
            raise InputError("kl_to_clean compares with the clean model: measure it in a sweep")
        clean = seen.clean.to(seen.last).log_softmax(-1)
        terms = clean.exp() * (clean - seen.last.log_softmax(-1))
        return torch.where(clean.isneginf(), 0, terms).sum(-1)


def kl_to_clean() -> KLToClean:
    """Kullback-Leibler divergence of the next token's distribution from the clean model's, KL(clean || edited)."""
    return KLToClean()


def _total(logits: Float[Tensor, "batch vocab"], ids: tuple[int, ...]) -> Float[Tensor, " batch"]:
    return logits[:, list(ids)].logsumexp(-1)
