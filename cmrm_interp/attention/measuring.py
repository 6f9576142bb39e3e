"""Measuring attention patterns while the model runs: each is looked at and let go, and the run goes on unchanged."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from cmrm_interp.axes import Bool, Float, Int, Tensor
from cmrm_interp.encoding import Batch
from cmrm_interp.errors import HookPointError, ModelError
from cmrm_interp.hooks import check_layers
from cmrm_interp.interventions import Chosen, Intervention, Step
from cmrm_interp.interventions.knockout import check_cross
from cmrm_interp.model import Model
from cmrm_interp.positions import Position, as_selector
from cmrm_interp.running import edits, forward


@dataclass(frozen=True)
class Watch(Intervention):
    """What is kept of patterns at some queries; as an intervention it changes nothing.

    Attributes:
        queries: tokens that attend.
        keys: tokens that are attended to.
        layers: of the decoder.
        found: what was kept of a batch, by layer.
    """

    queries: Position
    keys: Position
    layers: tuple[int, ...]
    found: dict[int, Tensor] = field(default_factory=dict)

    @property
    def positions(self) -> Position:  # type: ignore[override]
        """The queries."""
        return self.queries

    @property
    def asked(self) -> tuple[Position, ...]:
        """Queries and keys."""
        return self.queries, self.keys

    def targets(self, names: Sequence[str]) -> list[str]:
        """The patterns of the layers."""
        return [f"blocks.{layer}.attn.hook_pattern" for layer in self.layers]

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """Nothing."""
        return x

    def apply(self, activation: Tensor, hook: str, step: Step) -> Tensor:
        """Keep what is wanted of a pattern ``batch head query key``, and give it back."""
        selector = as_selector(self.keys)
        rows, columns = step.select(self.queries, activation.shape[2], activation.device)
        keys = step.once(("keys", selector), lambda: selector.mask(step.tokens))
        self.found[int(hook.split(".")[1])] = self.keep(activation[rows, :, columns], keys.to(rows.device), rows).cpu()
        return activation

    @abstractmethod
    def keep(
        self, pattern: Float[Tensor, "n head key"], keys: Bool[Tensor, "batch key"], rows: Int[Tensor, " n"]
    ) -> Tensor:
        """What is wanted.

        Args:
            pattern: of the queries.
            keys: which ones are asked for, of every row.
            rows: which row each query is of.
        """


def watched(model: Model, batch: Batch, watching: Watch, interventions: Sequence[Intervention]) -> Tensor:
    """What is kept of one batch, ``batch layer *kept``.

    Args:
        model: loaded with eager attention.
        batch: rows.
        watching: what to keep.
        interventions: checked ones, applied before.

    Raises:
        ModelError: the model was not loaded with eager attention, or gives NaN.
    """
    visits = edits(model.network, model.encoder, (*interventions, watching), batch)
    forward(model.network, batch, visits, stop=True, kept=(watching.found,))
    found = torch.stack([watching.found[layer] for layer in watching.layers], 1)
    if bool(found.isnan().any()):
        raise ModelError(
            f"attention of {model.name} is not numbers (NaN): in {model.hf.dtype} scores may overflow, so load the"
            " model in a wider dtype, or look at what the interventions do"
        )
    return found


def layers_with_pattern(
    model: Model, layers: int | Iterable[int] | None, positions: Sequence[Position]
) -> tuple[int, ...]:
    """Numbers of layers whose attention gives a pattern over tokens.

    Raises:
        HookPointError: one of them gives none, or attends to patches by cross-attention.
    """
    numbers = check_layers(layers, model.n_layers) or tuple(range(model.n_layers))
    check_cross(model.hook_points, numbers, positions)
    for layer in numbers:
        if f"blocks.{layer}.attn.hook_pattern" not in model.network.points:
            raise HookPointError(
                f"layer {layer} gives no attention pattern (there is no 'blocks.{layer}.attn.hook_pattern'): name other"
                " layers=, or a model whose attention goes through transformers' attention function"
            )
    return numbers
