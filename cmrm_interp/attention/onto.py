"""Where on an image the attention of one prompt goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cmrm_interp.attention.measuring import Watch, layers_with_pattern, watched
from cmrm_interp.axes import Bool, Float, Int, Tensor
from cmrm_interp.encoding.grids import PatchGrid
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.hooks import check_layers
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.model import Model
from cmrm_interp.plots import over_image
from cmrm_interp.positions import Position, at, position_mask
from cmrm_interp.vetting import vet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Attention to each token of one image.

    Attributes:
        values: shares of attention, the mean over queries, of each layer and head to each token of the image.
        layers: numbers of the layers.
        inputs: with the prompt.
        where: index of the prompt, and number of the image in it.
        queries: tokens that attend.
    """

    values: Float[Tensor, "layer head patch"]
    layers: tuple[int, ...]
    inputs: Inputs
    where: tuple[int, int]
    queries: Position

    def table(self, layer: int | None = None, head: int | None = None) -> "pd.DataFrame":
        """The share of each patch, as a grid; tokens that stand for no patch (ends of lines, crops) are left out.

        Args:
            layer: one layer (negative ones count from the last); None for the mean of all.
            head: one head; None for the mean of all.

        Returns:
            Columns ``row``, ``column`` (from the upper left) and ``value``.

        Raises:
            HookPointError: a layer or head that there is not.
            InputError: the tokens of this family's images have no places.
        """
        import pandas as pd

        values = self._chosen(layer, head).numpy()
        rows, columns = self._grid.cells(np.arange(len(values)))
        inside = rows >= 0
        return pd.DataFrame({"row": rows[inside], "column": columns[inside], "value": values[inside]})

    def plot(self, layer: int | None = None, head: int | None = None) -> "Figure":
        """The image as the model sees it, and over it where attention goes; see `table`."""
        which = "" if layer is None else f", layer {layer}"
        which += "" if head is None else f", head {head}"
        title = f"attention from {self.queries!r}{which}"
        return over_image(self.table(layer, head), self._grid.picture, labels={"value": "share"}, title=title)

    @property
    def _grid(self) -> PatchGrid:
        return self.inputs.grid(*self.where)

    def _chosen(self, layer: int | None, head: int | None) -> Float[Tensor, " patch"]:
        values = self.values.double()
        n = values.shape[1]
        if layer is not None:
            values = values[list(check_layers(layer, len(self.layers)) or ())]
        if head is not None:
            if not -n <= head < n:
                raise HookPointError(f"no head {head}: these layers have {n} heads (0-{n - 1})")
            values = values[:, [head]]
        return values.mean((0, 1))


def attention_map(
    model: Model,
    inputs: Inputs,
    prompt: int = 0,
    image: int = 0,
    queries: Position = "last",
    interventions: Sequence[Intervention] | Intervention = (),
) -> AttentionMap:
    """Attention of one prompt to each patch of one of its images, at every layer and head.

    Args:
        model: loaded with ``attn_implementation="eager"``.
        inputs: with the prompt.
        prompt: index of the prompt.
        image: number of the image in the prompt.
        queries: tokens that attend; the mean over them is taken.
        interventions: under which the model runs.

    Raises:
        InputError: no such prompt.
        HookPointError: no such image or position, or attention without a pattern over tokens.
        ModelError: the model was not loaded with eager attention, or gives NaN.
    """
    acting = vet(model, inputs, interventions)
    if not 0 <= prompt < len(inputs):
        raise InputError(f"no prompt {prompt}: there are {len(inputs)} (0-{len(inputs) - 1})")
    layers = layers_with_pattern(model, None, (queries, "image"))
    batch = inputs.batch(slice(prompt, prompt + 1))
    if not bool(batch.has_image.any()):
        raise HookPointError(f"prompt {prompt} has no image: there is nothing to draw attention on")
    if not bool(position_mask(queries, batch.tokens).any()):
        raise HookPointError(f"prompt {prompt} has no tokens at {queries!r}: choose other queries=")
    values = watched(model, batch, _Each(queries, at("image", image), layers), acting)[0]
    return AttentionMap(values, layers, inputs, (prompt, image), queries)


@dataclass(frozen=True)
class _Each(Watch):
    """Attention to each key, the mean of the one row's queries: ``batch head patch``."""

    def keep(
        self, pattern: Float[Tensor, "n head key"], keys: Bool[Tensor, "batch key"], rows: Int[Tensor, " n"]
    ) -> Float[Tensor, "batch head patch"]:
        """There is one query at least."""
        return pattern.float()[:, :, keys[0]].mean(0, keepdim=True)
