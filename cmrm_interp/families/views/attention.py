"""Views of the attention call: scores, pattern, and what each head adds to the stream."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers.pytorch_utils import Conv1D

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import ModelError
from cmrm_interp.families.views.base import Both, Frame, View, first, replace_first


class AttentionCall(NamedTuple):
    """A call of the attention function, which gave ``z`` (``batch pos head d_head``) and ``pattern``.

    Queries are ``batch head query d_head``, keys and values ``batch kv_head key d_head``; `mask` is added to the
    scores, which are multiplied by `scaling` and, where there is a `softcap`, bent by ``softcap * tanh(s / softcap)``.
    """

    z: Tensor
    pattern: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scaling: float
    softcap: float | None


@dataclass(frozen=True)
class Pattern(View):
    """The attention pattern, ``batch head query key``; a write recomputes z from it."""

    def read(self, raw: AttentionCall, frame: Frame) -> Float[Tensor, "batch head query key"]:
        """The pattern."""
        return raw.pattern

    def write(self, raw: AttentionCall, old: Tensor, new: Tensor, frame: Frame) -> AttentionCall:
        """Z moved by what the difference of the patterns moves it, and the new pattern."""
        change = (new - old) @ _for_each_head(raw.value, new.shape[1])
        return raw._replace(z=raw.z + change.transpose(1, 2), pattern=new)


@dataclass(frozen=True)
class Scores(View):
    """Attention scores as the softmax is given them, ``batch head query key``: scaled, capped, masked."""

    def read(self, raw: AttentionCall, frame: Frame) -> Float[Tensor, "batch head query key"]:
        """The scores."""
        scores = raw.query @ _for_each_head(raw.key, raw.query.shape[1]).transpose(2, 3) * raw.scaling
        if raw.softcap is not None:
            scores = (scores / raw.softcap).tanh() * raw.softcap
        return scores if raw.mask is None else scores + raw.mask[..., : scores.shape[-1]]

    def write(self, raw: AttentionCall, old: Tensor, new: Tensor, frame: Frame) -> AttentionCall:
        """Pattern and z moved by what the new scores change."""
        # Padding sees nothing: all of its scores are as low as numbers go, and -inf would make it nan.
        new = new.clamp(min=torch.finfo(new.dtype).min)
        before, after = (torch.softmax(s, -1, dtype=torch.float32).to(raw.pattern.dtype) for s in (old, new))
        return Pattern().write(raw, raw.pattern, raw.pattern + (after - before), frame)


@dataclass(frozen=True)
class Result(View):
    """What each head adds to the stream, ``batch pos head d_model``; their sum and the bias are the output.

    Attributes:
        module: path of the output projection.
        n_heads: number of heads.
    """

    module: str
    n_heads: int

    def read(self, raw: Both, frame: Frame) -> Float[Tensor, "batch pos head d_model"]:
        """Each head's z through its rows of the output projection."""
        z = first(raw.given).unflatten(-1, (self.n_heads, -1))
        return torch.einsum("...hd,hdm->...hm", z, self.weight(frame).unflatten(0, (self.n_heads, -1)))

    def write(self, raw: Both, old: Tensor, new: Tensor, frame: Frame) -> Both:
        """The output moved by the sum of the heads' differences."""
        out = first(raw.returned) + (new - old).sum(-2)
        return raw._replace(returned=replace_first(raw.returned, out))

    def weight(self, frame: Frame) -> Float[Tensor, "d_heads d_model"]:
        """Weights of the output projection, the heads' rows one after another.

        Raises:
            ModelError: they are quantised.
        """
        module, weight = frame.modules[self.module], frame.parameter(self.module)
        if weight is None or not weight.is_floating_point():
            raise ModelError(
                f"hook_result needs the weights of {self.module}, which are quantised: load the model without"
                " quantisation, or use hook_z"
            )
        return weight if isinstance(module, Conv1D) else weight.T


def _for_each_head(
    x: Float[Tensor, "batch kv_head key d_head"], n_heads: int
) -> Float[Tensor, "batch head key d_head"]:
    return x.repeat_interleave(n_heads // x.shape[1], dim=1)
