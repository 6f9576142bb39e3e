"""The optimizer's loop: AdamW, warm-up, cosine, accumulated and clipped gradients, checkpoints."""

import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import ModelError
from cmrm_interp.families.maps import FamilyMap
from cmrm_interp.finetuning.checkpoints import Checkpoints
from cmrm_interp.finetuning.encoding import IGNORED, Encoded, Writer
from cmrm_interp.finetuning.examples import Example
from cmrm_interp.finetuning.settings import Training


def fit(
    network: nn.Module,
    writer: Writer,
    examples: Sequence[Example],
    settings: Training,
    checkpoints: Checkpoints,
    progress: bool = True,
) -> list[float]:
    """Move the weights that require gradients down the loss of the answers' tokens.

    A step draws its chance from a seed of its own, so that going on after a kill changes nothing.

    Args:
        network: Hugging Face's model, or peft's around it.
        writer: of the model.
        examples: to learn from, each once before any comes again.
        settings: how.
        checkpoints: of this run.
        progress: whether to show a bar.

    Returns:
        The loss of each step: mean over the tokens of its answers, in nats.

    Raises:
        ModelError: the loss is no number any more.
    """
    from transformers import get_cosine_schedule_with_warmup

    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.lr, weight_decay=settings.weight_decay)
    curve = checkpoints.resume(optimizer)
    schedule = get_cosine_schedule_with_warmup(optimizer, settings.warmup, settings.steps)
    for _ in curve:
        schedule.step()
    network.train()
    bar = tqdm(
        range(len(curve), settings.steps), "fine-tuning", settings.steps, initial=len(curve), disable=not progress
    )
    for step in bar:
        torch.manual_seed(random.Random(f"fine-tuning {settings.seed} {step}").randrange(2**31))
        batches = batches_of(examples, settings, step)
        curve.append(
            _step(network, [part for batch in batches for part in writer.passes(batch)], writer.encoder.family)
        )
        nn.utils.clip_grad_norm_(weights, settings.clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        bar.set_postfix(loss=f"{curve[-1]:.3f}")
        if settings.checkpoint_every and (step + 1) % settings.checkpoint_every == 0:
            checkpoints.write(optimizer, step + 1, curve)
    network.eval()
    return curve


def batches_of(examples: Sequence[Example], settings: Training, step: int) -> list[list[Example]]:
    """The examples of a step, a list for each of its passes; every epoch has an order of its own.

    Args:
        examples: all of them.
        settings: seed and sizes.
        step: from 0.
    """
    size = settings.batch_size
    first = step * size * settings.accumulate
    rows = _rows(len(examples), settings.seed, first, size * settings.accumulate)
    return [[examples[row] for row in rows[start : start + size]] for start in range(0, len(rows), size)]


def summed_loss(network: nn.Module, encoded: Encoded, family: FamilyMap) -> Float[Tensor, ""]:
    """Cross-entropy of the labels, each predicted from the tokens before it, summed over them.

    Args:
        network: the model.
        encoded: examples.
        family: of the model.

    Raises:
        ModelError: the network gives logits for other tokens than it was given.
    """
    device = next(network.parameters()).device
    tensors = {name: tensor.to(device) for name, tensor in encoded.tensors.items()}
    logits = _callee(network, tensors, family)(**tensors, use_cache=False).logits[:, :-1]
    targets = encoded.labels[:, 1:].to(device)
    if logits.shape[:2] != targets.shape:
        raise ModelError(f"{family.name} gives logits of {logits.shape[1]} tokens where {targets.shape[1]} were given")
    wanted = targets != IGNORED
    return functional.cross_entropy(logits[wanted].float(), targets[wanted], reduction="sum")


def _step(network: nn.Module, passes: Sequence[Encoded], family: FamilyMap) -> float:
    """Gradients of one step, and its loss."""
    # Over all passes together: a short answer's token weighs as much as a long one's.
    tokens = sum(int((encoded.labels != IGNORED).sum()) for encoded in passes)
    total = 0.0
    for encoded in passes:
        loss = summed_loss(network, encoded, family) / tokens
        loss.backward()
        total += loss.item()
    if not math.isfinite(total):
        raise ModelError(f"the loss is {total}: lower the learning rate, or load the weights in bf16 or fp32")
    return total


def _callee(network: nn.Module, tensors: dict[str, Tensor], family: FamilyMap) -> Any:
    # Some families take prompts without an image through their language model alone.
    if family.alone is None or "pixel_values" in tensors:
        return network
    inner = network.get_base_model() if type(network).__name__ == "PeftModel" else network  # type: ignore[operator]
    return inner.get_submodule(family.alone)


def _rows(n: int, seed: int, first: int, count: int) -> list[int]:
    places = range(first, first + count)
    orders = {epoch: random.Random(f"epoch {seed} {epoch}").sample(range(n), n) for epoch in {p // n for p in places}}
    return [orders[place // n][place % n] for place in places]
