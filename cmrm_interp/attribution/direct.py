"""Direct logit attribution."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from cmrm_interp.after_head import check_before_head
from cmrm_interp.arguments import check_arguments
from cmrm_interp.attribution.parts import Part, Reader
from cmrm_interp.attribution.result import Attribution
from cmrm_interp.attribution.sources import IMAGE_AND_TEXT, REST, SplitZ, check_split
from cmrm_interp.attribution.target import Pair, Target
from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.capture import Request, capture_batch
from cmrm_interp.encoding import Batch
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.model import Model
from cmrm_interp.positions import Position, position_mask
from cmrm_interp.remote import RemoteNetwork
from cmrm_interp.running import BatchSize, each_batch
from cmrm_interp.vetting import vet

By = Literal["component", "head", "layer", "source"]
_HOW = ("interventions", "batch_size", "sources")


@torch.no_grad()
def direct_logit_attribution(
    model: Model,
    inputs: Inputs,
    tokens: Pair | Sequence[Pair],
    by: By = "component",
    positions: Position = "last",
    **how: Any,
) -> Attribution:
    """What each part of the model adds to a logit, or to the difference of two (Elhage et al. 2021).

    The last norm's scale is frozen at its value in the run, its gain is folded into the head, so that the logit is a
    sum over everything that was added to the stream. It holds what a part writes towards the logit itself and not
    what later parts make of it.

    Args:
        model: with its weights here.
        inputs: what to run.
        tokens: a token, a pair ``(yes, no)`` for the difference of their logits (the logit of ``yes`` less that of
            ``no``), or a list with one of these for each prompt; strings that are one token, or ids.
        by: ``"component"`` (attention and MLP of each block), ``"head"`` (attention by head), ``"source"`` (heads by
            the tokens that they attended to; needs eager attention) or ``"layer"`` (whole blocks; its `accumulated`
            is the logit lens with that frozen scale).
        positions: tokens at which the logit is read; several of a prompt count as their mean.
        **how: ``interventions`` under which the model runs (what they do to the stream is a part of its own,
            ``"edit"``), ``batch_size`` (rows a batch, or ``"auto"``), and ``sources``: groups of keys by name for
            ``by="source"``, ``{"image": "image", "text": "text"}`` if left out; tokens in none are the ``"rest"``.

    Returns:
        `Attribution`: one number a prompt and part; ``.table()``, ``.plot()``, ``.summed(...)``, ``.accumulated()``.

    Raises:
        InputError: not a token, an unknown `by`, an argument that there is not, or sources that overlap.
        HookPointError: a position or hook point that there is not, or an intervention behind the last block.
        ModelError: weights that are elsewhere or quantised, or a model whose logits are no such sum, or are NaN.
    """
    if by not in get_args(By):
        raise InputError(f"by={by!r}: use {', '.join(map(repr, get_args(By)))}")
    if isinstance(model.network, RemoteNetwork):
        raise ModelError("attribution needs the model's weights here, and this model runs elsewhere")
    check_arguments("direct_logit_attribution", how, ("tokens", "by", "positions", *_HOW))
    work = _Work.of(model, inputs, (tokens, by, positions), **how)
    batches = list(work.run(inputs))
    values, logits, has = (torch.cat([batch[name] for batch in batches]) for name in ("values", "logits", "has"))
    if not bool(has.any()):
        raise HookPointError(f"none of these {len(inputs)} prompts has a token at {positions!r}")
    return _checked(model, work.result(values[has], logits[has], has))


@dataclass(frozen=True, eq=False)
class _Work:
    """One attribution.

    Attributes:
        model: the model.
        target: what is attributed.
        reader: reads its parts.
        request: what is captured.
        sources: groups of keys, for a split by source.
        batch_size: rows a batch.
        parts: as they are read.
    """

    model: Model
    target: Target
    reader: Reader
    request: Request
    sources: Mapping[str, Position]
    batch_size: BatchSize
    parts: list[Part]

    @classmethod
    def of(
        cls,
        model: Model,
        inputs: Inputs,
        asked: tuple[Any, str, Position],
        interventions: Sequence[Intervention] | Intervention = (),
        batch_size: BatchSize = "auto",
        sources: Mapping[str, Position] | None = None,
    ) -> "_Work":
        """Everything checked before the model runs."""
        tokens, by, positions = asked
        if sources is not None and (by != "source" or not sources or REST in sources):
            raise InputError(f"sources= names groups of keys for by='source', none of them {REST!r}")
        sources, acting = dict(sources or IMAGE_AND_TEXT), vet(model, inputs, interventions)
        check_before_head(model, acting)
        reader = Reader.of(model, by, (*sources, REST), edited=bool(acting))
        request = Request.of(model.network, reader.hooks, positions, interventions=acting)
        if by == "source":
            SplitZ(positions, sources, model.n_layers).targets(model.hook_points)
        return cls(model, Target.of(model, inputs, tokens), reader, request, sources, batch_size, [])

    def run(self, inputs: Inputs) -> Iterator[Mapping[str, Tensor]]:
        """Values and logits of each batch."""
        yield from each_batch(inputs, self.batch_size, self._batch, "attribution")

    def result(self, values: Tensor, logits: Tensor, has: Tensor) -> Attribution:
        """The result; sources that nothing came from are left out."""
        empty = [part.source == REST and not bool(values[:, i].any()) for i, part in enumerate(self.parts)]
        kept = [i for i, is_empty in enumerate(empty) if not is_empty]
        parts, prompts = tuple(self.parts[i] for i in kept), tuple(has.nonzero().flatten().tolist())
        return Attribution(values[:, kept], parts, logits, prompts, self.target.label, self.target.softcap)

    def _batch(self, batch: Batch) -> Mapping[str, Tensor]:
        splitting = SplitZ(self.request.positions, self.sources, self.model.n_layers)
        acting = (*self.request.interventions, *((splitting,) if self.reader.by == "source" else ()))
        # A prompt without an image leaves blocks out that would attend to one.
        met = set(self.model.network.names(batch.tensors))
        hooks = tuple(name for name in self.request.hooks if name in met)
        request = Request(hooks, self.request.positions, acting)
        acts = capture_batch(self.model.network, self.model.encoder, batch, request)
        names = {layer: acts.selected(f"blocks.{layer}.attn.hook_z") for layer in splitting.found}
        check_split(splitting.found, names)
        rows = position_mask(request.positions, batch.tokens).nonzero()[:, 0]
        prompts = batch.rows[rows]
        u = self.target.before_norm(acts.selected(self.reader.last), prompts)
        found = dict(self.reader.read(acts, u, splitting.found))
        found[Part("bias")] = self.target.of_biases(prompts)
        self.parts[:] = list(found)
        logits = self.target.at_end(acts.selected("ln_final.hook_out").double(), prompts)
        n = len(batch.rows)
        values = _by_row(torch.stack(list(found.values()), 1), rows, n)
        return {"values": values, "logits": _by_row(logits, rows, n), "has": torch.bincount(rows, minlength=n) > 0}


def _by_row(x: Float[Tensor, "n *shape"], rows: Int[Tensor, " n"], size: int) -> Float[Tensor, "batch *shape"]:
    """Means over the tokens of each row; NaN where there are none."""
    total = x.new_zeros(size, *x.shape[1:]).index_add(0, rows, x)
    return total / torch.bincount(rows, minlength=size).reshape(-1, *[1] * (x.ndim - 1))


def _checked(model: Model, found: Attribution) -> Attribution:
    # Every sum in the model is rounded to its dtype; the parts are as large as they are.
    slack = 32 * torch.finfo(model.hf.dtype).eps * max(1.0, float(found.values.abs().sum(1).max()))
    if bool(found.logits.isnan().any()):
        raise ModelError(
            f"{model.name} gives logits that are not numbers (NaN): in {model.hf.dtype} they may overflow, so load it"
            " in a wider dtype, or look at what the interventions do"
        )
    if not found.rounding <= slack:
        raise ModelError(
            f"{model.name}: the parts of the logit add up to something else (by {found.rounding:.2g}): this model adds"
            " more to its stream than its hook points show"
        )
    return found
