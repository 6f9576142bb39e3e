"""Views of a norm: its scale, and its output before and after the learned gain."""

from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.families.views.base import Both, Frame, View, first, replace_first


@dataclass(frozen=True)
class Norm:
    """One norm of a model.

    Attributes:
        module: its path.
        centred: whether the mean is subtracted (LayerNorm), or not (RMS norm).
        epsilon: what is added under the root.
        gain_offset: added to the weight to get the gain (1 in Gemma).
    """

    module: str
    centred: bool = False
    epsilon: float = 1e-6
    gain_offset: float = 0.0

    def centre(self, x: Tensor) -> Tensor:
        """The input in fp32, as models normalise it, less its mean where the norm is a LayerNorm."""
        x = x.float()
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def scale(self, x: Tensor) -> Tensor:
        """Root of the mean square (or variance) and epsilon, by which the centred input `x` is divided."""
        return (x.pow(2).mean(-1, keepdim=True) + self.epsilon).sqrt()

    def gain(self, frame: Frame) -> Tensor | float:
        """The learned gain."""
        weight = frame.parameter(self.module)
        return 1.0 if weight is None else weight + self.gain_offset


@dataclass(frozen=True)
class Normalized(View):
    """A norm's output before its learned gain (TransformerLens's ``hook_normalized``)."""

    norm: Norm

    def read(self, raw: Both, frame: Frame) -> Float[Tensor, "*rows d_model"]:
        """The input divided by its scale."""
        x = self.norm.centre(first(raw.given))
        return (x / (self.norm.scale(x) if raw.scale is None else raw.scale)).to(first(raw.returned).dtype)

    def write(self, raw: Both, old: Tensor, new: Tensor, frame: Frame) -> Both:
        """Output moved by the gain times the difference."""
        return _moved(raw, self.norm.gain(frame) * (new - old))


@dataclass(frozen=True)
class Scale(View):
    """What a norm divides by, ``batch pos 1`` (TransformerLens's ``hook_scale``)."""

    norm: Norm

    def read(self, raw: Both, frame: Frame) -> Float[Tensor, "*rows one"]:
        """Root of the mean square (or variance) and epsilon."""
        return self.norm.scale(self.norm.centre(first(raw.given))).to(first(raw.returned).dtype)

    def write(self, raw: Both, old: Tensor, new: Tensor, frame: Frame) -> Both:
        """Output moved to where dividing by the new scale puts it."""
        x = self.norm.centre(first(raw.given))
        return _moved(raw, self.norm.gain(frame) * (x / new - x / old))._replace(scale=new)


def _moved(raw: Both, change: Tensor) -> Both:
    out = first(raw.returned)
    moved: Any = replace_first(raw.returned, out + change.to(out.dtype))
    return raw._replace(returned=moved)


def centred(module: torch.nn.Module) -> bool:
    """Whether a norm subtracts the mean; transformers names the classes of those that do not RMS norms."""
    return "RMS" not in type(module).__name__
