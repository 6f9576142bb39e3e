"""KL(model || lens) at every layer: as a loss, and on prompts that were held out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.encoding import Batch
from cmrm_interp.errors import ModelError
from cmrm_interp.inputs import Inputs
from cmrm_interp.intervals import bootstrap_means
from cmrm_interp.lens.places import hook_of, need_tokens, places_of
from cmrm_interp.lens.tuned import TunedLens
from cmrm_interp.lens.unembedding import Unembedding
from cmrm_interp.model import Model
from cmrm_interp.positions import Position
from cmrm_interp.running import BatchSize, each_batch, forward

Lens = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, eq=False)
class Streams:
    """The streams of a batch at the chosen tokens.

    Attributes:
        layers: by number, each ``n d_model``.
        last: of the last layer.
        prompt: index of the prompt of each token.
    """

    layers: dict[int, Tensor]
    last: Float[Tensor, "n d_model"]
    prompt: Int[Tensor, " n"]


def streams(model: Model, batch: Batch, layers: Sequence[int], positions: Position) -> Streams:
    """Run a batch and keep its streams, where the model put them.

    Raises:
        ModelError: they are NaN.
    """
    places, rows, columns = places_of(batch, positions)
    kept: dict[str, Tensor] = {}

    def _keep(name: str) -> Callable[[Tensor, int], None]:
        def _visit(stream: Tensor, _: int) -> None:
            kept[name] = stream[rows.to(stream.device), columns.to(stream.device)].detach()

        return _visit

    last = hook_of(model.n_layers - 1)
    names = [*(hook_of(layer) for layer in layers), last]
    forward(model.network, batch, {name: _keep(name) for name in names}, stop=True)
    if bool(kept[last].isnan().any()):
        raise ModelError(
            f"{model.name}: its stream is not numbers (NaN) after the last block, so that nothing can be learnt: in"
            f" {kept[last].dtype} it may overflow, so load the model in a wider dtype"
        )
    return Streams({layer: kept[hook_of(layer)] for layer in layers}, kept[last], places.prompt)


def divergence(target: Float[Tensor, "n vocab"], logits: Float[Tensor, "n vocab"]) -> Float[Tensor, " n"]:
    """KL(model || lens) of each token, in nats.

    Args:
        target: logarithms of the model's probabilities.
        logits: of the lens.
    """
    ours = logits.float().log_softmax(-1)
    # Where the model's probability is zero, the term is zero, whatever the lens says.
    return (target.exp() * (target.clamp(min=-1e4) - ours.clamp(min=-1e4))).sum(-1)


def chunks(found: Streams, unembed: Unembedding) -> Iterator[tuple[slice, Tensor]]:
    """Parts of the tokens whose logits fit together, with the logarithms of the model's probabilities."""
    for start in range(0, len(found.last), unembed.room):
        part = slice(start, start + unembed.room)
        with torch.no_grad():
            target = unembed(found.last[part]).float().log_softmax(-1)
        # Outside of no_grad, which would hold for whoever is given it, too.
        yield part, target


def by_prompt(
    model: Model, unembed: Unembedding, inputs: Inputs, lenses: Sequence[Lens], tuned: TunedLens, size: BatchSize
) -> tuple[Float[Tensor, "lens layer prompt"], Int[Tensor, " prompt"]]:
    """KL(model || lens) of each prompt, the mean over its tokens, and which prompts have such tokens.

    Args:
        model: the model.
        unembed: of the model.
        inputs: the prompts.
        lenses: functions of streams and a layer's number.
        tuned: whose layers and positions are meant.
        size: rows a batch.

    Raises:
        HookPointError: no prompt has such tokens.
    """

    @torch.no_grad()
    def _run(batch: Batch) -> tuple[Tensor, Tensor]:
        found = streams(model, batch, tuned.layers, tuned.positions)
        parts = [
            torch.stack(
                [
                    torch.stack([divergence(p, unembed(lens(x[s], n)).to(p)) for n, x in found.layers.items()])
                    for lens in lenses
                ]
            )
            for s, p in chunks(found, unembed)
        ]
        if not parts:
            return torch.zeros(len(lenses), len(tuned.layers), 0), found.prompt
        values, rows = torch.cat(parts, -1).cpu(), found.prompt.unique()
        return torch.stack([values[..., found.prompt == row].mean(-1) for row in rows], -1), rows

    batches = list(each_batch(inputs, size, _run, "held-out prompts"))
    every, rows = (torch.cat(part, -1) for part in zip(*batches, strict=True))
    need_tokens(rows, tuned.positions, len(inputs))
    return every, rows


def by_draw(values: Float[Tensor, "lens layer prompt"], draws: Sequence[Any]) -> Float[Tensor, "lens layer draw"]:
    """Means over prompts that were drawn together: a text with its image is no second draw beside it without."""
    kinds = {draw: number for number, draw in enumerate(dict.fromkeys(draws))}
    mine = torch.tensor([kinds[draw] for draw in draws])
    return torch.stack([values[..., mine == number].mean(-1) for number in range(len(kinds))], -1)


def report(values: Float[Tensor, "lens layer draw"], layers: Sequence[int], seed: int) -> list[dict[str, Any]]:
    """Rows of `TunedLens.table`, of the logit lens and the tuned lens in this order."""
    logit, tuned = values
    kinds = {"logit": logit, "tuned": tuned, "gain": logit - tuned}
    rows = []
    ends = {name: bootstrap_means(table.T.double().numpy(), seed) for name, table in kinds.items()}
    for number, layer in enumerate(layers):
        for name, table in kinds.items():
            low, high = (float(end[number]) for end in ends[name])
            kl = float(table[number].double().mean())
            rows.append({"layer": layer, "lens": name, "kl": kl, "low": low, "high": high, "n": table.shape[1]})
    return rows
