"""Views: how the value at a module becomes a TransformerLens-shaped activation, and goes back.

A view reads an activation out of what a module was given or returned, and writes a changed one back
in a way that has the effect which the name promises. Writes that cannot replace the value itself add
the change (``new - old``), so that an unchanged activation leaves the model bit-equal.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cmrm_interp.axes import Float, Tensor


@dataclass
class Frame:
    """What a view may need besides the raw value.

    Attributes:
        modules: modules of the Hugging Face model by path.
        inputs: tensors that the model was called with.
        needed: hook points that some view of this pass looks back at.
        seen: their activations, as far as they were met in this forward pass, edits included.
    """

    modules: Mapping[str, Any]
    inputs: Mapping[str, Any]
    needed: frozenset[str] = frozenset()
    seen: dict[str, Tensor] = field(default_factory=dict)


class View(ABC):
    """One way to see the value at a module as an activation."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Hook points, earlier in the pass, whose activations this view uses."""
        return ()

    @abstractmethod
    def read(self, raw: Any, frame: Frame) -> Tensor:
        """Activation in a raw value."""

    @abstractmethod
    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """Raw value in which the activation `old` has become `new`."""


@dataclass(frozen=True)
class Whole(View):
    """The tensor itself, or the first of a tuple."""

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """The tensor."""
        return _first(raw)

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """The new tensor in the old one's place."""
        return _replace_first(raw, new)


@dataclass(frozen=True)
class Heads(View):
    """The last axis split into heads: ``batch pos head d_head``."""

    n_heads: int

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """Activation with an axis of heads."""
        return _first(raw).unflatten(-1, (self.n_heads, -1))

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """The new tensor with its heads joined again."""
        return _replace_first(raw, new.flatten(-2))


@dataclass(frozen=True)
class Middle(View):
    """The residual stream between attention and MLP, seen at the attention's output.

    The second norm's input would be the natural place to read it, but a write there would leave the
    residual branch as it was; changing the attention's output by the difference changes both.
    """

    resid_pre: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The stream before the block."""
        return (self.resid_pre,)

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """``resid_pre + attn_out``."""
        return frame.seen[self.resid_pre] + _first(raw)

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """Attention output moved by the difference."""
        return _replace_first(raw, _first(raw) + (new - old))


@dataclass(frozen=True)
class Pattern(View):
    """The attention pattern, ``batch head query key``; a write recomputes z from it.

    The raw value is ``(z, pattern, value)`` of the attention call: z as ``batch pos head d_head``,
    the values as ``batch kv_head key d_head``.
    """

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """The pattern."""
        return raw[1]

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """Z moved by what the difference of the patterns moves it, and the new pattern."""
        z, _, value = raw
        heads_per_value = new.shape[1] // value.shape[1]
        change = (new - old) @ value.repeat_interleave(heads_per_value, dim=1)
        return z + change.transpose(1, 2), new, value


@dataclass(frozen=True)
class Normalized(View):
    """An RMS norm's output before its learned gain, computed from the norm's input.

    Attributes:
        source: hook point of the norm's input.
        module: path of the norm.
        epsilon: name of its attribute that holds epsilon.
        gain_offset: what is added to the weight to get the gain (1 in Gemma).
    """

    source: str
    module: str
    epsilon: str = "variance_epsilon"
    gain_offset: float = 0.0

    @property
    def needs(self) -> tuple[str, ...]:
        """The norm's input."""
        return (self.source,)

    def read(self, raw: Any, frame: Frame) -> Float[Tensor, "batch pos d_model"]:
        """The input divided by its root mean square, in fp32 as the models do it."""
        x = frame.seen[self.source].float()
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + getattr(frame.modules[self.module], self.epsilon))
        return (x * scale).to(_first(raw).dtype)

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """Output moved by the gain times the difference."""
        gain = frame.modules[self.module].weight + self.gain_offset
        return _replace_first(raw, _first(raw) + gain * (new - old))


@dataclass(frozen=True)
class Patches(View):
    """Patches of the images, ``image patch d``, from a tower that keeps one row an image."""

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """The tensor."""
        return _first(raw)

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """The new tensor in the old one's place."""
        return _replace_first(raw, new)

    def counts(self, inputs: Mapping[str, Any]) -> list[int] | None:
        """Patches of each image, or None where every image has the same number."""
        return None


@dataclass(frozen=True)
class PackedPatches(Patches):
    """Patches of all images run together along one axis, as in Qwen2-VL; padded to one row an image.

    Attributes:
        grid: name of the model input with time, height and width of each image, in patches.
        merge: patches that have become one by this point.
    """

    grid: str = "image_grid_thw"
    merge: int = 1

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """Rows padded with zeros to the longest image."""
        rows = _first(raw).split(self.counts(frame.inputs))
        return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """Rows run together again, without the padding."""
        rows = [row[:n] for row, n in zip(new, self.counts(frame.inputs), strict=True)]
        return _replace_first(raw, torch.cat(rows))

    def counts(self, inputs: Mapping[str, Any]) -> list[int]:
        """Patches of each image."""
        return (inputs[self.grid].prod(-1) // self.merge).tolist()


def _first(raw: Any) -> Tensor:
    return raw[0] if isinstance(raw, tuple | list) else raw


def _replace_first(raw: Any, new: Tensor) -> Any:
    return (new, *raw[1:]) if isinstance(raw, tuple | list) else new
