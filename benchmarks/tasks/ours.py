"""The tasks by this package."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import cmrm_interp as ci
from benchmarks.cases import Case
from cmrm_interp.patching import activation_patching

STREAM = "blocks.*.hook_resid_post"


@dataclass(frozen=True)
class Ours:
    """A loaded model and its inputs.

    Attributes:
        case: what is compared.
        model: the package's, on a copy of the network of its own.
        texts, images: prompts, from which `prompts` makes inputs that are encoded anew by each call.
    """

    case: Case
    model: ci.Model
    texts: Sequence[str]
    images: Sequence[Image.Image]

    @property
    def inputs(self) -> ci.Inputs:
        """The encoded inputs that the other libraries get, too."""
        return self.model.from_encoding(self.case.tensors)

    @property
    def others(self) -> ci.Inputs:
        """The same prompts with other images, encoded."""
        return self.model.from_encoding(self.case.others)

    @property
    def prompts(self) -> ci.Inputs:
        """The prompts, not encoded yet."""
        return self.model.prepare(self.texts, self.images)

    @cached_property
    def given(self) -> Sequence[ci.Prompt]:
        """The prompts alone."""
        return self.prompts.prompts

    @cached_property
    def shift(self) -> ci.Directions:
        """The vectors of the case."""
        names = ci.hooks.expand(STREAM, self.model.hook_points)
        return ci.Directions(dict(zip(names, self.case.vectors.cpu(), strict=True)))


def encode(ours: Ours) -> dict[str, Tensor]:
    """Prompts and images as the processor makes tensors of them, without the package."""
    texts = [ours.model.encoder.text(prompt) for prompt in ours.given]
    how: dict[str, Any] = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    encoded = ours.model.processor(text=texts, images=list(ours.images), **how)
    return {name: tensor for name, tensor in encoded.items() if name in ours.case.tensors}


def encoded(function: Callable[..., Tensor], ours: Ours) -> Tensor:
    """A plain task, with the encoding of prompts and pictures before it."""
    return function(ours.case, tensors=encode(ours))


def capture(ours: Ours) -> Tensor:
    """``layer batch d_model``: every layer's output at the last token."""
    return _stacked(ours.model.capture(ours.inputs, STREAM))


def capture_prompts(ours: Ours) -> Tensor:
    """The same of prompts that are encoded by the call."""
    return _stacked(ours.model.capture(ours.prompts, STREAM))


def add(ours: Ours) -> Tensor:
    """Logits with every layer's vector subtracted at the last token."""
    return ours.model.logits(ours.inputs, ci.Subtract(ours.shift))


def generate(ours: Ours) -> Tensor:
    """New tokens, nothing changed."""
    return ours.model.generate_tokens(ours.inputs, (), ours.case.plan.new_tokens)


def steer(ours: Ours) -> Tensor:
    """New tokens under CMRM's subtraction."""
    recipe = replace(ci.recipes.CMRM(), shift=ours.shift, model=ours.model.fingerprint)
    acting = recipe.interventions(ours.model, ours.inputs)
    return ours.model.generate_tokens(ours.inputs, acting, ours.case.plan.new_tokens)


def sample_level(ours: Ours) -> Tensor:
    """New tokens under CMRM at the sample level: the prompts are encoded, run with a blank image and as text alone."""
    recipe, prompts = ci.recipes.CMRM("sample").fit(ours.model), ours.prompts
    acting = recipe.interventions(ours.model, prompts)
    return ours.model.generate_tokens(prompts, acting, ours.case.plan.new_tokens)


def sweep(ours: Ours) -> Tensor:
    """``variant batch``: the metric with one layer's vector subtracted at the last token, at some strength."""
    over = {"layer": range(ours.case.layers), "alpha": ours.case.plan.alphas}
    return _values(ci.sweep(ours.model, ours.inputs, over, partial(_subtract, ours.shift), ours.case.metric))


def ablation(ours: Ours) -> Tensor:
    """``layer batch``: the metric with one layer left out at all positions."""
    return _values(ci.ablation_sweep(ours.model, ours.inputs, "layer", ours.case.metric))


def patch_last(ours: Ours) -> Tensor:
    """``cell batch``: the metric with one layer's output at one of the last positions as the clean run has it."""
    return _patching(ours, ours.case.last_positions)


def patch_spread(ours: Ours) -> Tensor:
    """``cell batch``: the same at positions all over the prompt."""
    return _patching(ours, ours.case.spread_positions)


def _subtract(shift: ci.Directions, layer: int, alpha: float) -> ci.Subtract:
    return ci.Subtract(shift, alpha, layers=[layer])


def _patching(ours: Ours, positions: Sequence[int]) -> Tensor:
    grid: dict[str, Any] = {"unit": "resid_post", "over": "position", "layers": ours.case.patch_layers}
    found = activation_patching(ours.model, ours.inputs, ours.others, ours.case.metric, positions=positions, **grid)
    return _values(found.raw)


def _values(found: ci.SweepResult) -> Tensor:
    return torch.from_numpy(found.values()).flatten(0, -2)


def _stacked(acts: ci.Activations) -> Tensor:
    return torch.stack([acts[name] for name in acts])
