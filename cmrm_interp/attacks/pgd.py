"""Projected gradient descent on pixels (Madry et al., arXiv 1706.06083), towards given answers.

``x <- clip(x - step * sign(gradient of -log p(target | x)))`` into the ball ``|x - x0| <= epsilon`` and into 0 .. 1,
on the model's own gradients, from a random start in the ball. Of all pictures on the way the likeliest is kept.
With `universal` one change is made for all pictures (Qi et al., arXiv 2306.13213, from many requests at once).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from tqdm.auto import tqdm

from cmrm_interp.attacks.likelihood import Answers, answer_loss
from cmrm_interp.attacks.pixels import PixelSpace, pixel_space
from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.inputs import Inputs
from cmrm_interp.running import frozen_weights, hides_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Slope = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Adversarial:
    """What an attack made.

    Attributes:
        inputs: the prompts with the pictures of the attack.
        images: these pictures, 8 bits a colour, at the size that the model sees; a prompt's one after another.
        targets: the answers that were to become likely.
        loss: of the targets at each step, in nats a token, before pictures are rounded to 8 bits.
        before: of the targets, with the pictures that were there.
        after: of the targets, with the pictures of the attack.
    """

    inputs: Inputs
    images: tuple[Image.Image, ...]
    targets: tuple[str, ...]
    loss: Float[Tensor, "step batch"]
    before: Float[Tensor, " batch"]
    after: Float[Tensor, " batch"]

    def plot(self) -> "Figure":
        """The mean loss of the targets by step."""
        import pandas as pd

        from cmrm_interp.plots import lines

        means = self.loss.mean(1).tolist()
        table = pd.DataFrame({"step": range(len(means)), "loss": means})
        return lines(table, "step", "loss", labels={"loss": "mean loss of the targets (nats a token)"})


@dataclass(frozen=True)
class PGD:
    """An attack on pixels, to be tried on a model: ``PGD(epsilon=8/255).attack(model, inputs, "sure, here is")``.

    Attributes:
        epsilon: how far each value may go from the picture's own, where black is 0 and white is 1.
        step: how far it goes in one step.
        steps: how many steps.
        seed: of the random start.
        universal: whether all pictures, which the model then sees at one size, get the same change.
        batch_size: prompts whose gradients are taken together.
    """

    epsilon: float = 16 / 255
    step: float = 1 / 255
    steps: int = 100
    seed: int = 0
    universal: bool = False
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse sizes and numbers that mean nothing."""
        for name in ("epsilon", "step"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 < value <= 1):
                raise InputError(
                    f"{name} is {value}: give a number above 0 and up to 1 (16 steps of a picture: 16/255)"
                )
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: give at least 1")

    def attack(self, model: Any, inputs: Inputs, targets: str | Sequence[str]) -> Adversarial:
        """Pictures under which the model finds the targets likely.

        Args:
            model: a `Model` on this machine, in bf16 or fp32.
            inputs: from `Model.prepare`, each prompt with an image.
            targets: the beginning of the answer that is wanted, for all prompts or for each; its tokens are made
                apart from the prompt's.

        Raises:
            InputError: no images, another number of targets, pictures of several sizes for a universal change.
            ModelError: no tokenizer, weights that are quantised or elsewhere, no gradients, or a processor that
                cuts pictures into crops.
        """
        _check_weights(model)
        answers = Answers.of(model, targets, len(inputs))
        space = pixel_space(model, inputs)
        values, loss = self._search(space, partial(self._slope, model, space, answers))
        images = space.images(values, self.epsilon)
        attacked = model.prepare(space.shown(images))
        texts = (targets,) * len(inputs) if isinstance(targets, str) else tuple(targets)
        before, after = (answer_loss(model, shown, targets, self.batch_size) for shown in (inputs, attacked))
        return Adversarial(attacked, tuple(images), texts, loss, before, after)

    def _search(self, space: PixelSpace, slope: Slope) -> tuple[Tensor, Tensor]:
        """The values at which each target was likeliest, and the losses of every step."""
        clean, copies = space.values, self._copies(space)
        low, high = torch.full_like(clean, -self.epsilon), torch.full_like(clean, self.epsilon)
        if copies == 1:
            low, high = low.maximum(-clean), high.minimum(1 - clean)
        low, high = low[: len(clean) // copies], high[: len(clean) // copies]
        change = low + (high - low) * torch.rand(low.shape, generator=torch.Generator().manual_seed(self.seed))
        best, losses, least = clean, [], torch.full((len(space.prompts),), math.inf)
        for _ in tqdm(range(self.steps + 1), desc="PGD", unit="step", delay=2, leave=False, disable=hides_bars()):
            values = (clean + change.repeat(copies)).clamp(0, 1)
            loss, gradient = slope(values)
            losses.append(loss)
            judged = loss.mean().expand_as(loss) if self.universal else loss
            best, least = torch.where((judged < least)[space.rows], values, best), torch.minimum(judged, least)
            downhill = gradient.view(copies, -1).sum(0).sign()
            change = (change - self.step * downhill).clamp(low, high)
        return best, torch.stack(losses)

    def _copies(self, space: PixelSpace) -> int:
        """How many pictures get the same change."""
        if self.universal and len(set(space.sizes)) > 1:
            seen = ", ".join(f"{width} x {height}" for width, height in sorted(set(space.sizes)))
            raise InputError(
                f"one change for all pictures needs pictures of one size, and the model sees {seen}: resize"
            )
        return len(space.sizes) if self.universal else 1

    def _slope(self, model: Any, space: PixelSpace, answers: Answers, values: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each prompt, and the gradient of their sum with respect to the values."""
        values, found = values.clone().requires_grad_(), []
        total = torch.zeros_like(values)
        with torch.enable_grad(), frozen_weights(model.hf):
            for start in range(0, len(space.prompts), self.batch_size):
                rows = slice(start, start + self.batch_size)
                tensors = model.encoder.slice_rows(space.encoding(values), rows)
                loss = answers.rows(rows).loss(model, tensors)
                total += _gradient(model, loss, values)
                found.append(loss.detach())
        return torch.cat(found), total


def _gradient(model: Any, loss: Tensor, values: Tensor) -> Tensor:
    if not bool(torch.isfinite(loss).all()):
        raise ModelError(f"{model.name} gives these targets a likelihood that is no number: load it in bf16 or fp32")
    gradient = torch.autograd.grad(loss.sum(), values, allow_unused=True)[0] if loss.requires_grad else None
    if gradient is None:
        raise ModelError(
            f"no gradient flows from the answers of {model.name} to its pixels: load it in bf16 or fp32, without"
            " quantisation"
        )
    return gradient


def _check_weights(model: Any) -> None:
    odd = any(not weight.is_floating_point() for weight in model.hf.parameters())
    if odd or getattr(model.hf.config, "quantization_config", None) is not None:
        raise ModelError(
            f"the weights of {model.name} are quantised, and no gradient to trust flows through rounded numbers: load"
            " the checkpoint in bf16 or fp32 (without quantization_config)"
        )
