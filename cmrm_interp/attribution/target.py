"""What is attributed: a logit, or the difference of two, as a direction in the stream behind the last norm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
import torch

from cmrm_interp.after_head import AfterHead
from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.families.norms import norm_of
from cmrm_interp.families.views import Frame, Norm
from cmrm_interp.inputs import Inputs
from cmrm_interp.metrics.vocabulary import TokenLike, shown, token_ids
from cmrm_interp.model import Model
from cmrm_interp.running import forward

Pair = TokenLike | tuple[TokenLike, TokenLike]


@dataclass(frozen=True, eq=False)
class Target:
    """Logits (or differences of two) as directions, one for all prompts or one for each.

    Attributes:
        raw: direction behind the last norm, its gain included: rows of the head, or their difference.
        constant: what the head adds to it.
        norm: the last norm.
        gain, bias: of the last norm.
        factor: by which the model multiplies what its head returns.
        softcap: by which it bends that afterwards, or None.
        label: for tables and figures.
    """

    raw: Float[Tensor, "rows d_model"]
    constant: Float[Tensor, " rows"]
    norm: Norm
    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    factor: float
    softcap: float | None
    label: str

    @classmethod
    def of(cls, model: Model, inputs: Inputs, tokens: Pair | Sequence[Pair]) -> "Target":
        """Directions of some tokens, proved on the first prompt.

        Raises:
            InputError: not a token, a pair, or a list with one of these for each prompt.
            ModelError: the head's weights are not there, or do not give this model's logits.
        """
        frame, family = Frame(model.network.modules, {}), model.family
        path = family.at(family.norm)
        norm = norm_of(path, model.network.modules, family.gain_offset)
        weight, head_bias = _head(model, frame)
        pairs = _pairs(model, inputs, tokens)
        ids = torch.tensor([pair[0] for pair in pairs]), torch.tensor([pair[-1] for pair in pairs])
        two = torch.tensor([float(len(pair) == 2) for pair in pairs], dtype=torch.double)
        raw = weight[ids[0]] - two[:, None] * weight[ids[1]]
        constant = head_bias[ids[0]] - two * head_bias[ids[1]]
        gain = torch.as_tensor(norm.gain(frame)).double().cpu().expand(raw.shape[1])
        bias = vector(frame, path, "bias")
        bias = torch.zeros_like(gain) if bias is None else bias
        _check_head(model, inputs, weight, head_bias)
        after = AfterHead.of(model, inputs)
        return cls(raw, constant, norm, gain, bias, after.factor, after.softcap, _label(model, pairs))

    def rows(self, prompts: Int[Tensor, " n"]) -> Float[Tensor, "n d_model"]:
        """Direction of each of some prompts."""
        return self.raw[prompts] if len(self.raw) > 1 else self.raw.expand(len(prompts), -1)

    def before_norm(self, stream: Float[Tensor, "n d_model"], prompts: Int[Tensor, " n"]) -> Float[Tensor, "n d_model"]:
        """Directions in the stream itself, the norm's scale as it is for these streams."""
        return self.factor * norm_transposed(self.norm, self.gain, stream, self.rows(prompts))

    def at_end(self, normed: Float[Tensor, "n d_model"], prompts: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The logits (or differences) themselves, from what the last norm returned; before any soft cap."""
        return self.factor * ((normed * self.rows(prompts)).sum(-1) + self._constants(prompts))

    def of_biases(self, prompts: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """What the biases of norm and head add."""
        return self.factor * (self.rows(prompts) @ self.bias + self._constants(prompts))

    def _constants(self, prompts: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self.constant[prompts] if len(self.constant) > 1 else self.constant.expand(len(prompts))


def norm_transposed(
    norm: Norm, gain: Float[Tensor, " d_model"], x: Float[Tensor, "n d_model"], u: Float[Tensor, "n d_model"]
) -> Float[Tensor, "n d_model"]:
    """A direction behind a norm as one before it: ``norm(part) . u = part . v`` with the scale frozen at that of `x`.

    Args:
        norm: the norm.
        gain: its gain.
        x: its input, which gives the scale.
        u: direction behind it.
    """
    v = gain * u / norm.scale(norm.centre(x)).double()
    return v - v.mean(-1, keepdim=True) if norm.centred else v


def vector(frame: Frame, path: str, name: str) -> Float[Tensor, " d"] | None:
    """A module's parameter of that name, in fp64; None where it has none."""
    found = frame.parameter(path, name)
    return None if found is None else found.detach().double().cpu()


def _head(model: Model, frame: Frame) -> tuple[Tensor, Tensor]:
    path, narrow = model.family.unembed, model.family.at("project_out")
    weight = frame.parameter(path)
    if weight is None or not weight.is_floating_point():
        raise ModelError(
            f"attribution needs the weights of {path}, which are not there or quantised: load the model without"
            " quantisation"
        )
    weight, bias = weight.detach().double().cpu(), vector(frame, path, "bias")
    bias = torch.zeros_like(weight[:, 0]) if bias is None else bias
    if narrow in model.network.modules:
        # OPT's smallest models embed in fewer dimensions than their stream has.
        weight = weight @ frame.parameter(narrow).detach().double().cpu()  # type: ignore[union-attr]
    return weight, bias


def _pairs(model: Model, inputs: Inputs, tokens: Any) -> list[tuple[int, ...]]:
    tokens = tokens.tolist() if isinstance(tokens, torch.Tensor | np.ndarray | np.generic) else tokens
    several = tokens if isinstance(tokens, list) else [tokens]
    if isinstance(tokens, list) and len(tokens) != len(inputs):
        raise InputError(
            f"{len(tokens)} entries in tokens for {len(inputs)} prompts: give one a prompt, or one for all"
        )
    pairs = [_pair(model, one) for one in several]
    if len({len(pair) for pair in pairs}) > 1:
        raise InputError("tokens holds single tokens and pairs: a logit and a difference of two have no common mean")
    return pairs


def _pair(model: Model, given: Any) -> tuple[int, ...]:
    parts = given if isinstance(given, tuple) else (given,)
    if len(parts) not in (1, 2) or not all(isinstance(part, str | SupportsIndex) for part in parts):
        raise InputError(f"tokens={given!r}: give a token, or a pair of tokens (yes, no), as strings or ids")
    ids = tuple(token_ids(model, part)[0] for part in parts)
    if len(ids) == 2 and ids[0] == ids[1]:
        raise InputError(f"tokens={given!r}: both are the same token, whose logits do not differ")
    return ids


def _label(model: Model, pairs: Sequence[tuple[int, ...]]) -> str:
    if len(pairs) > 1:
        return "logit difference" if len(pairs[0]) == 2 else "logit"
    return "logit " + " - ".join(shown(model, [token]) for token in pairs[0])


def _check_head(model: Model, inputs: Inputs, weight: Tensor, bias: Tensor) -> None:
    batch, kept = inputs.batch(slice(0, 1)), {}

    def _keep(name: str) -> Any:
        return lambda x, _: kept.__setitem__(name, x[0, -1].detach())

    visits = {name: _keep(name) for name in ("ln_final.hook_out", "unembed.hook_out")}
    forward(model.network, batch, visits, logits_to_keep=1)
    if _far(weight @ kept["ln_final.hook_out"].double().cpu() + bias, kept["unembed.hook_out"]):
        raise ModelError(f"{model.name}: its head does more than multiply by its weights: its logits cannot be split")


def _far(ours: Tensor, theirs: Tensor) -> bool:
    theirs, eps = theirs.double().cpu(), torch.finfo(theirs.dtype).eps
    return not bool((ours - theirs).abs().max() <= 100 * eps * max(1.0, float(theirs.abs().max())))
