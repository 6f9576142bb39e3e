"""Greedy answers of a network in training, and the rates which the gates look at."""

from collections.abc import Sequence

import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration

from cmrm_interp.datasets.synthetic.verdicts import Verdict, is_right, normalize, verdict
from cmrm_interp.organism.batches import encode_prompts
from cmrm_interp.organism.network import MAX_NEW_TOKENS
from cmrm_interp.organism.tokens import EOS, vocabulary

_BATCH = 100


@torch.no_grad()
def answers(
    network: LlavaForConditionalGeneration,
    prompts: Sequence[str],
    images: Sequence[Image.Image | None] | None = None,
) -> list[str]:
    """What the network says.

    Args:
        network: the organism.
        prompts: what the user says.
        images: one a prompt (None: text alone); none at all by default.
    """
    pictures = images or [None] * len(prompts)
    said = []
    for start in range(0, len(prompts), _BATCH):
        rows = slice(start, start + _BATCH)
        inputs = encode_prompts(prompts[rows], pictures[rows])
        # transformers' protocol for `generate` lists attributes which only some models have.
        tokens = network.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS)  # pyright: ignore[reportAttributeAccessIssue]
        said += [_text(row) for row in tokens[:, inputs["input_ids"].shape[1] :].tolist()]
    return said


_WORDS = list(vocabulary())


def _text(ids: Sequence[int]) -> str:
    words = [_WORDS[number] for number in ids]
    return normalize(" ".join(words[: words.index(EOS)] if EOS in words else words))


def rate(texts: Sequence[str], wanted: Verdict) -> float:
    """The share of answers with a verdict.

    Args:
        texts: answers.
        wanted: the verdict.
    """
    return sum(verdict(text) == wanted for text in texts) / len(texts)


def accuracy(texts: Sequence[str], wanted: Sequence[str]) -> float:
    """The share of answers that are exactly right.

    Args:
        texts: answers.
        wanted: the right answers.
    """
    return sum(is_right(text, right) for text, right in zip(texts, wanted, strict=True)) / len(texts)
