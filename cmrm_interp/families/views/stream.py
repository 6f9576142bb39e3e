"""Views of the residual stream and of what is added to it."""

from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Tensor
from cmrm_interp.errors import ModelError
from cmrm_interp.families.views.base import Frame, View, first, replace_first


@dataclass(frozen=True)
class Whole(View):
    """The tensor itself, or the first of a tuple."""

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """The tensor."""
        return first(raw)

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """The new tensor in the old one's place."""
        return replace_first(raw, new)


@dataclass(frozen=True)
class Columns(View):
    """Some columns of the last axis, where one module computes several things at once.

    Attributes:
        part: number of the part, from 0.
        sizes: widths of all parts; their ratios are enough.
    """

    part: int = 0
    sizes: tuple[int, ...] = (1,)

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """The columns."""
        start, stop = self._bounds(first(raw).shape[-1])
        return first(raw)[..., start:stop]

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """The tensor with these columns replaced."""
        whole = first(raw)
        start, stop = self._bounds(whole.shape[-1])
        return replace_first(raw, torch.cat([whole[..., :start], new, whole[..., stop:]], -1))

    def _bounds(self, width: int) -> tuple[int, int]:
        unit = width // sum(self.sizes)
        start = unit * sum(self.sizes[: self.part])
        return start, start + unit * self.sizes[self.part]


@dataclass(frozen=True)
class Heads(View):
    """The last axis, or some of its columns, split into heads: ``batch pos head d_head``.

    Attributes:
        n_heads: number of heads.
        columns: which columns hold them, where one module computes queries, keys and values at once.
    """

    n_heads: int
    columns: View = Whole()

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """Activation with an axis of heads."""
        return self.columns.read(raw, frame).unflatten(-1, (self.n_heads, -1))

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """The new tensor with its heads joined again."""
        return self.columns.write(raw, old, new.flatten(-2), frame)


@dataclass(frozen=True)
class Scaled(View):
    """A module's output times a learned gate, as it is added to the stream (Mllama's cross-attention, InternViT).

    Attributes:
        gate: path of the module that holds the gate.
        name: of the parameter.
        tanh: whether the gate goes through tanh.
    """

    gate: str
    name: str
    tanh: bool = False

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """The output times the gate."""
        return self._gate(frame) * first(raw)

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """The output moved by the difference over the gate."""
        gate = self._gate(frame)
        if bool((gate == 0).any()):
            raise ModelError(f"{self.gate}.{self.name} is zero: what this layer adds to the stream cannot be changed")
        return replace_first(raw, first(raw) + (new - old) / gate)

    def _gate(self, frame: Frame) -> Tensor:
        gate: Any = frame.parameter(self.gate, self.name)
        return gate.tanh() if self.tanh else gate


@dataclass(frozen=True)
class Middle(View):
    """The residual stream between attention and MLP, seen at what attention adds to it.

    The second norm's input would be the natural place to read it, but a write there would leave the
    residual branch as it was; changing what attention adds by the difference changes both.

    Attributes:
        resid_pre: hook point of the stream before the block.
        added: view of what attention adds.
    """

    resid_pre: str
    added: View = Whole()

    @property
    def needs(self) -> tuple[str, ...]:
        """The stream before the block."""
        return (self.resid_pre,)

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """``resid_pre + attn_out``."""
        return frame.seen[self.resid_pre] + self.added.read(raw, frame)

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """What attention adds, moved by the difference."""
        added = self.added.read(raw, frame)
        return self.added.write(raw, added, added + (new - old), frame)


@dataclass(frozen=True)
class Rest(View):
    """What was added since an earlier point of the stream, seen at the block's output.

    For blocks that gate or mask what they add in a way that no module's output shows.
    """

    since: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The earlier point."""
        return (self.since,)

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """The output less the stream at the earlier point."""
        return first(raw) - frame.seen[self.since]

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """The output moved by the difference."""
        return replace_first(raw, first(raw) + (new - old))


@dataclass(frozen=True)
class Nothing(View):
    """What a block that is left out adds to the stream: zeros, which can still be changed."""

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """Zeros."""
        return torch.zeros_like(first(raw))

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """The stream moved by the difference."""
        return replace_first(raw, first(raw) + (new - old))
