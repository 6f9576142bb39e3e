"""The logit lens: last norm and head applied to the stream of every layer.

nostalgebraist (2020), "interpreting GPT: the logit lens"; on image tokens: Neo et al., "Towards Interpreting Visual
Information Processing in Vision-Language Models" (arXiv 2410.07149).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.after_head import check_before_head
from cmrm_interp.arguments import check_arguments
from cmrm_interp.axes import Int, Tensor
from cmrm_interp.encoding import Batch
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.lens.places import Layers, Places, hook_of, layer_numbers, need_tokens, places_of
from cmrm_interp.lens.readout import Readout, joined, read_out
from cmrm_interp.lens.result import LensResult
from cmrm_interp.lens.tuned import TunedLens
from cmrm_interp.lens.unembedding import Unembedding
from cmrm_interp.metrics.vocabulary import OneOrMore, listed, token_ids
from cmrm_interp.model import Model
from cmrm_interp.positions import Position
from cmrm_interp.running import BatchSize, each_batch, edits, forward
from cmrm_interp.tracing import Visit
from cmrm_interp.vetting import vet


def logit_lens(
    model: Model,
    inputs: Inputs,
    layers: Layers = None,
    positions: Position = "last",
    tokens: OneOrMore = (),
    k: int = 5,
    **how: Any,
) -> LensResult:
    """What the model would say next if it ended after each layer, at text and image tokens.

    The stream after each block (and before the first) goes through the model's own last norm and head, with whatever
    the model does to its logits after them; at the last layer these are the model's logits. They are worked out while
    the model runs, a batch at a time, and all but the likeliest tokens is forgotten at once.

    Args:
        model: the model.
        inputs: from `Model.prepare` or `Model.from_encoding`.
        layers: blocks whose output is read (negative ones count from the last), ``"embed"`` for the stream before
            the first; None for all.
        positions: ``"last"``, ``"all"``, ``"image"``, or any other position.
        tokens: tokens (text or ids) whose rank and probability are wanted at every place.
        k: how many of the likeliest tokens are kept.
        **how: ``lens`` (a `TunedLens`), ``interventions`` (the model is read after them), ``keep_logits=False``,
            ``batch_size="auto"`` (rows).

    Raises:
        HookPointError: a layer that there is not, positions that no prompt has (``"image"`` without images), or an
            intervention behind the last block.
        InputError: more top tokens than the vocabulary has, or a token that is none.
        MismatchError: a lens of another model.
        ModelError: no way is known from the stream to the logits, the model runs elsewhere, or gives NaN.
    """
    reading = _Reading(**_known(how))
    numbers = layer_numbers(layers, model.n_layers)
    acting = vet(model, inputs, reading.interventions)
    check_before_head(model, acting)
    unembed = Unembedding.of(model, inputs)
    ids = [(token, token_ids(model, token)[0]) for token in listed(tokens)]
    asked = {token if isinstance(token, str) else str(number): number for token, number in ids}
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= unembed.width:
        raise InputError(f"k={k} top tokens: use 1 to {unembed.width}, the size of this vocabulary")
    if reading.lens is not None:
        reading.lens.check(model, numbers)
    lens = _Lens(reading, unembed, tuple(asked.values()), k)

    def _run(batch: Batch) -> tuple[Places, Readout]:
        places, rows, columns = places_of(batch, positions)
        found: dict[int, Readout] = {}
        visits = edits(model.network, model.encoder, acting, batch)
        for layer in numbers:
            visits[hook_of(layer)] = _Visit(visits.get(hook_of(layer)), lens, layer, (rows, columns), found)
        forward(model.network, batch, visits, stop=True)
        return places, joined([found[layer] for layer in numbers], new_axis=True)

    parts = list(each_batch(inputs, reading.batch_size, _run, "lens"))
    places = Places.join([part[0] for part in parts])
    need_tokens(places.prompt, positions, len(inputs))
    return LensResult(numbers, places, joined([part[1] for part in parts]), tuple(asked), inputs, reading.keep_logits)


@dataclass(frozen=True)
class _Reading:
    lens: TunedLens | None = None
    interventions: Sequence[Intervention] | Intervention = ()
    keep_logits: bool = False
    batch_size: BatchSize = "auto"


@dataclass(frozen=True)
class _Lens:
    reading: _Reading
    unembed: Unembedding
    asked: tuple[int, ...]
    k: int

    @torch.no_grad()
    def read(self, x: Tensor, layer: int) -> Readout:
        step = self.unembed.room
        parts = [self._part(x[start : start + step], layer) for start in range(0, max(len(x), 1), step)]
        return joined(parts)

    def _part(self, x: Tensor, layer: int) -> Readout:
        lens = self.reading.lens
        logits = self.unembed(x if lens is None else lens(x, layer))
        if bool(logits.isnan().any()):
            raise ModelError(
                f"the logits at layer {layer} are not numbers (NaN): in {logits.dtype} they may overflow, so load the"
                " model in a wider dtype, or look at what the interventions do"
            )
        return read_out(logits, self.k, self.asked, self.reading.keep_logits)


@dataclass(frozen=True)
class _Visit:
    edit: Visit | None
    lens: _Lens
    layer: int
    where: tuple[Int[Tensor, " n"], Int[Tensor, " n"]]
    found: dict[int, Readout]

    def __call__(self, stream: Tensor, step: int) -> Tensor:
        new = stream if self.edit is None else self.edit(stream, step)
        new = stream if new is None else new
        rows, columns = (index.to(new.device) for index in self.where)
        self.found[self.layer] = self.lens.read(new[rows, columns], self.layer)
        return new


def _known(how: Mapping[str, Any]) -> Mapping[str, Any]:
    check_arguments("logit_lens", how, ("layers", "positions", "tokens", "k", *_Reading.__dataclass_fields__))
    return how
