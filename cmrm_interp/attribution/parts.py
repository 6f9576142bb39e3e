"""The parts of the stream, each times a direction: embedding, attention, heads, sources, MLPs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from cmrm_interp.activations import Activations
from cmrm_interp.attribution.target import norm_transposed, vector
from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import HookPointError
from cmrm_interp.families.blocks import Block
from cmrm_interp.families.norms import norm_of
from cmrm_interp.families.points import blocks_of
from cmrm_interp.families.views import Frame, Result, Scaled
from cmrm_interp.model import Model

EMBED = "blocks.0.hook_resid_pre"


class Part(NamedTuple):
    """One part of a logit.

    Attributes:
        component: ``"embed"`` (tokens, positions and image features before the first block), ``"attn"``, ``"mlp"``,
            ``"per_layer"`` (Gemma 4's embeddings for each layer), ``"block"``, ``"attn_bias"``, ``"edit"`` (what
            interventions did to the stream in that block) or ``"bias"`` (of last norm and head).
        layer: number of the block, or None.
        head: number of the head, or None.
        source: tokens that a head attended to, or None.
    """

    component: str
    layer: int | None = None
    head: int | None = None
    source: str | None = None


Found = Iterator[tuple[Part, Float[Tensor, " n"]]]


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads the parts of the stream of one model.

    Attributes:
        model: the model.
        by: how finely.
        blocks: of its decoder.
        sources: names of the tokens that heads are split by.
        edited: whether interventions may have changed the stream.
    """

    model: Model
    by: str
    blocks: tuple[Block, ...]
    sources: tuple[str, ...] = ()
    edited: bool = False

    @classmethod
    def of(cls, model: Model, by: str, sources: tuple[str, ...] = (), edited: bool = False) -> "Reader":
        """A reader of a model.

        Raises:
            HookPointError: heads are asked for where a block's output projection is not known.
        """
        blocks = tuple(blocks_of(model.family, model.hf, model.network.modules))
        lacking = [block.layer for block in blocks if block.kind.o is None]
        if by in ("head", "source") and lacking:
            raise HookPointError(f"block {lacking[0]} has no hook_z: split this model by='component' or by='layer'")
        return cls(model, by, blocks, sources, edited)

    @property
    def last(self) -> str:
        """Hook point of the stream that the last norm is given."""
        return f"{self.blocks[-1].name}.hook_resid_post"

    @property
    def hooks(self) -> list[str]:
        """What has to be captured."""
        wanted = {EMBED, self.last, "ln_final.hook_out", *(name for block in self.blocks for name in self._of(block))}
        return [name for name in self.model.hook_points if name in wanted]

    def read(self, acts: Activations, u: Float[Tensor, "n d_model"], split: Mapping[int, Tensor]) -> Found:
        """Parts in forward order, each with its share of every token's logit.

        Args:
            acts: captured at `hooks`; points that a prompt without an image does not reach may be missing.
            u: direction in the stream that the last norm is given.
            split: by layer, z of each source, ``n source head d_head``.
        """
        scales = [*self._scales(), 1.0]
        stream = _dot(acts.selected(EMBED), u * scales[0])
        yield Part("embed"), stream
        for block in self.blocks:
            parts = {} if self.by == "layer" else dict(self._block(block, acts, u * scales[block.layer], split))
            yield from parts.items()
            if self.by == "layer" or self.edited:
                after = _dot(acts.selected(f"{block.name}.hook_resid_post"), u * scales[block.layer + 1])
                rest = after - stream - sum(parts.values())
                yield Part("block" if self.by == "layer" else "edit", block.layer), rest
                stream = after

    def _block(self, block: Block, acts: Activations, u: Tensor, split: Mapping[int, Tensor]) -> Found:
        yield from self._attention(block, acts, u, split)
        yield Part("mlp", block.layer), _dot(acts.selected(f"{block.name}.hook_mlp_out"), u)
        if block.kind.tail is not None:
            yield Part("per_layer", block.layer), _dot(acts.selected(f"{block.name}.{block.kind.tail[0]}"), u)

    def _attention(self, block: Block, acts: Activations, u: Tensor, split: Mapping[int, Tensor]) -> Found:
        if self.by == "component":
            yield Part("attn", block.layer), _dot(acts.selected(f"{block.name}.hook_attn_out"), u)
            return
        z_name, n_heads = f"{block.attn_name}.hook_z", block.heads[0]
        if z_name not in acts:
            # A block that attends to the image is left out without one.
            yield from ((Part("attn", block.layer, head), u.new_zeros(len(u))) for head in range(n_heads))
            return
        v, bias = self._through(block, acts, u)
        own = acts.selected(z_name)[:, None] if self.by == "head" else split[block.layer]
        values = (own.double() * v[:, None]).sum(-1)
        names = (None,) if self.by == "head" else self.sources
        for number, source in enumerate(names):
            for head in range(n_heads):
                yield Part("attn", block.layer, head, source), values[:, number, head]
        if bias is not None:
            yield Part("attn_bias", block.layer), bias

    def _through(self, block: Block, acts: Activations, u: Tensor) -> tuple[Tensor, Tensor | None]:
        """A direction in the stream as one in each head's z, ``n head d_head``, and what biases on the way add."""
        kind, frame = block.kind, Frame(self.model.network.modules, {})
        bias: Tensor | None = None
        if kind.attn_gate is not None:
            gate = Scaled(block.path, kind.attn_gate.name, kind.attn_gate.tanh)
            u = u * gate.read(torch.ones(()), frame).double().cpu()
        if kind.post_attn is not None:
            path = block.at(kind.post_attn)
            norm = norm_of(path, block.modules, block.gain_offset)
            bias = _added(bias, u, vector(frame, path, "bias"))
            gain = torch.as_tensor(norm.gain(frame)).double().cpu()
            u = norm_transposed(norm, gain, acts.selected(f"{block.attn_name}.hook_out"), u)
        o = block.at(kind.o or "")
        bias = _added(bias, u, vector(frame, o, "bias"))
        weight = Result(o, block.heads[0]).weight(frame).detach().double().cpu()
        return (u @ weight.T).unflatten(-1, (block.heads[0], -1)), bias

    def _of(self, block: Block) -> list[str]:
        stream = [f"{block.name}.hook_resid_post"]
        if self.by == "layer":
            return stream
        attn = [f"{block.name}.hook_attn_out"]
        if self.by != "component":
            attn = [f"{block.attn_name}.hook_z"]
            attn += [f"{block.attn_name}.hook_out"] if block.kind.post_attn is not None else []
        tail = [f"{block.name}.{block.kind.tail[0]}"] if block.kind.tail is not None else []
        return [*attn, f"{block.name}.hook_mlp_out", *tail, *(stream if self.edited else ())]

    def _scales(self) -> list[float]:
        """By what each block's additions are multiplied until the stream ends (Gemma 4 scales it at a block's end)."""
        frame, after, found = Frame(self.model.network.modules, {}), 1.0, []
        for block in reversed(self.blocks):
            if block.kind.scale is not None:
                after *= float(frame.parameter(block.path, block.kind.scale))  # type: ignore[arg-type]
            found.append(after)
        return found[::-1]


def _added(total: Tensor | None, u: Float[Tensor, "n d_model"], vector: Tensor | None) -> Float[Tensor, " n"] | None:
    if vector is None:
        return total
    return u @ vector if total is None else total + u @ vector


def _dot(x: Float[Tensor, "n d_model"], u: Float[Tensor, "n d_model"]) -> Float[Tensor, " n"]:
    return (x.double() * u).sum(-1)
