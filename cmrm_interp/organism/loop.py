"""One optimizer loop for every stage: AdamW, warm-up, cosine decay, clipped gradients, a progress bar."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from tqdm.auto import tqdm

from cmrm_interp.axes import Float, Tensor

WARM_UP = 50
_RECORDED = 25  # a point of the curve every so many steps


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Args:
        name: shown beside the progress bar.
        steps: optimizer steps.
        lr: peak learning rate.
        average: decay of a running average of the weights, which replaces them at the end; 0 for none.
    """

    name: str
    steps: int
    lr: float
    average: float = 0.0


def learning_rate(schedule: Schedule, step: int) -> float:
    """The rate at a step: linear warm-up times a cosine from the peak down to a tenth of it.

    Args:
        schedule: peak and length.
        step: from 0.
    """
    warm = min(1.0, (step + 1) / WARM_UP)
    return schedule.lr * warm * (0.1 + 0.45 * (1 + math.cos(math.pi * step / schedule.steps)))


def fit(
    weights: Sequence[nn.Parameter],
    loss: Callable[[], Float[Tensor, ""]],
    schedule: Schedule,
    progress: bool = True,
) -> list[tuple[int, float]]:
    """Moves weights down a loss.

    Args:
        weights: what moves.
        loss: draws a batch and returns its loss.
        schedule: how long and how fast.
        progress: whether to show a bar.

    Returns:
        The curve: (step, mean loss of the steps since the last point).
    """
    optimizer = torch.optim.AdamW(weights, lr=schedule.lr, betas=(0.9, 0.98), weight_decay=0.01)
    mean = [weight.detach().clone() for weight in weights]
    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    bar = tqdm(range(schedule.steps), desc=f"stage {schedule.name}", disable=not progress)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(schedule, step)
        recent.append(_step(weights, loss, optimizer))
        _average(mean, weights, schedule.average)
        if (step + 1) % _RECORDED == 0 or step + 1 == schedule.steps:
            curve.append((step + 1, round(sum(recent) / len(recent), 5)))
            bar.set_postfix(loss=f"{curve[-1][1]:.3f}")
            recent = []
    _average(weights, mean, 0.0)
    return curve


def _step(
    weights: Sequence[nn.Parameter], loss: Callable[[], Float[Tensor, ""]], optimizer: torch.optim.Optimizer
) -> float:
    value = loss()
    optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    return value.item()


@torch.no_grad()
def _average(mean: Sequence[Tensor], weights: Sequence[Tensor], decay: float) -> None:
    """Moves the mean towards the weights; with decay 0, onto them."""
    for old, new in zip(mean, weights, strict=True):
        old.copy_(torch.lerp(new, old, decay) if decay else new)
