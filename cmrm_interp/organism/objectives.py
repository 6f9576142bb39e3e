"""The two losses of the organism's stages: predict the answer, and see what is in each cell of a picture."""

import random
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.datasets.synthetic.pictures import CELLS, SHAPES, Scene, draw_scene
from cmrm_interp.datasets.synthetic.words import COLORS
from cmrm_interp.organism.batches import Row, encode_rows, pad_rows, pixels
from cmrm_interp.organism.config import Stage
from cmrm_interp.organism.examples import Mixture, draw

_PASSES = 4


class Language:
    """Next-token loss over a mixture, each call on a fresh batch.

    Args:
        network: the organism.
        mixture: what to draw from.
        stage: batch size and the weight of prompt tokens.
        rng: the source of chance.
    """

    def __init__(
        self, network: LlavaForConditionalGeneration, mixture: Mixture, stage: Stage, rng: random.Random
    ) -> None:
        self.network, self.mixture, self.stage, self.rng = network, mixture, stage, rng

    def __call__(self) -> Float[Tensor, ""]:
        """The weighted mean over the tokens of one fresh batch."""
        examples = [draw(self.rng, self.mixture) for _ in range(self.stage.batch)]
        rows = encode_rows(examples, self.stage.prompt_weight)
        # Rows of like length share a pass, which saves a third of the time that padding would take.
        rows.sort(key=lambda row: len(row.ids))
        size = -(-len(rows) // _PASSES)
        parts = [self._summed(rows[start : start + size]) for start in range(0, len(rows), size)]
        return torch.stack(parts).sum() / sum(sum(row.weights[1:]) for row in rows)

    def _summed(self, rows: Sequence[Row]) -> Float[Tensor, ""]:
        batch = pad_rows(rows)
        logits = self.network(**batch.inputs).logits[:, :-1]
        targets, weights = batch.inputs["input_ids"][:, 1:], batch.weights[:, 1:]
        losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return (losses * weights.flatten()).sum()


def cell_labels(scenes: list[Scene]) -> Int[Tensor, "2 image cell"]:
    """The shape and the color in each cell; 0 for nothing.

    Args:
        scenes: pictures.
    """
    labels = torch.zeros(2, len(scenes), len(CELLS), dtype=torch.long)
    for row, scene in enumerate(scenes):
        for thing in scene.objects:
            labels[0, row, thing.cell] = 1 + SHAPES.index(thing.shape)
            labels[1, row, thing.cell] = 1 + COLORS.index(thing.color)
    return labels


class Seeing:
    """Loss of linear heads, thrown away afterwards, which read shape and color of each cell off the tower.

    Without it the tower learns through captions alone, and confuses shapes.

    Args:
        network: the organism.
        stage: batch size.
        rng: the source of chance.
    """

    def __init__(self, network: LlavaForConditionalGeneration, stage: Stage, rng: random.Random) -> None:
        self.tower, self.stage, self.rng = network.model.vision_tower, stage, rng
        width = self.tower.config.hidden_size
        self.heads = nn.ModuleList([nn.Linear(width, 1 + len(SHAPES)), nn.Linear(width, 1 + len(COLORS))])

    def __call__(self) -> Float[Tensor, ""]:
        """The mean over the cells of one fresh batch, shape's and color's added."""
        scenes = [draw_scene(self.rng) for _ in range(self.stage.batch)]
        patches = self.tower(pixels([scene.image for scene in scenes])).last_hidden_state[:, 1:]
        side = int(patches.shape[1] ** 0.5) // 2  # patches along one side of a cell
        grid = patches.view(len(scenes), 2, side, 2, side, -1)
        cells = grid.mean(dim=(2, 4)).reshape(len(scenes), len(CELLS), -1)
        pairs = zip(self.heads, cell_labels(scenes), strict=True)
        return torch.stack(
            [functional.cross_entropy(head(cells).flatten(0, 1), label.flatten()) for head, label in pairs]
        ).sum()
