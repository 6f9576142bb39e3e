"""Metrics: what one run of a model on some prompts is worth, one number a prompt.

``ci.sweep`` takes them, and any function from logits ``batch vocab`` to ``batch``. Each says what it needs (logits
of the next token, of all positions, activations, answers, the clean model's logits), so that several are measured
in one pass.
"""

from cmrm_interp.metrics.base import FunctionMetric, Metric, Metrics, Needs, Seen, named
from cmrm_interp.metrics.behaviour import perplexity, unsafe_rate
from cmrm_interp.metrics.next_token import kl_to_clean, logit_diff, probability, refusal_score
from cmrm_interp.metrics.states import probe_score

__all__ = [
    "FunctionMetric",
    "Metric",
    "Metrics",
    "Needs",
    "Seen",
    "kl_to_clean",
    "logit_diff",
    "named",
    "perplexity",
    "probability",
    "probe_score",
    "refusal_score",
    "unsafe_rate",
]
