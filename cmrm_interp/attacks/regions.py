"""Which regions of its pictures make a model give an answer: attribution by random masks.

In the manner of ContextCite (Cohen-Wang et al., arXiv 2409.00729): regions are hidden at random, the log-likelihood of
the answer is measured each time, and a linear model of it in what was shown gives each region its score. A square grid
of regions and ridge regression (which scores every region) are ours; a hidden region has its picture's mean colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from tqdm.auto import tqdm

from cmrm_interp.attacks.likelihood import Answers
from cmrm_interp.attacks.pixels import PixelSpace
from cmrm_interp.axes import Bool, Float, Tensor
from cmrm_interp.errors import InputError
from cmrm_interp.running import hides_bars


@dataclass(frozen=True)
class RegionScores:
    """Scores of the regions of pictures, and pictures without some of them.

    Attributes:
        side: regions on each side of the grid.
        masks: how many times regions are hidden at random, each with a chance of one half.
        seed: of the masks.
        batch_size: prompts a batch.
    """

    side: int = 4
    masks: int = 64
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse grids and numbers of masks that say nothing."""
        if self.side < 2:
            raise InputError(f"a grid of {self.side} x {self.side} regions: give at least 2 on a side")
        if self.masks < 2:
            raise InputError(f"{self.masks} masks tell no region from another: give more, best above {self.side**2}")

    def of(self, model: Any, space: PixelSpace, targets: str | Sequence[str]) -> Float[Tensor, "batch region"]:
        """How much likelier each region makes a prompt's target, in nats a token; regions row by row.

        Args:
            model: a `Model`.
            space: the prompts and their pictures.
            targets: one text for all prompts, or one for each.
        """
        from sklearn.linear_model import Ridge

        answers = Answers.of(model, targets, len(space.prompts))
        chance = torch.Generator().manual_seed(self.seed)
        shown = torch.rand(self.masks, self.side**2, generator=chance) < 0.5
        how = {"desc": "masks", "delay": 2, "leave": False, "disable": hides_bars()}
        likely = [-self._loss(model, space, answers, mask) for mask in tqdm(shown, **how)]
        fitted = Ridge(alpha=1.0).fit(shown.double().numpy(), torch.stack(likely).double().numpy())
        return torch.from_numpy(fitted.coef_).float().reshape(len(space.prompts), -1)

    def without(self, space: PixelSpace, hidden: Bool[Tensor, "batch region"]) -> list[Image.Image]:
        """The pictures with some regions of each prompt's hidden."""
        return space.images(self._hide(space, hidden))

    @torch.no_grad()
    def _loss(self, model: Any, space: PixelSpace, answers: Answers, shown: Tensor) -> Tensor:
        tensors = space.encoding(self._hide(space, ~shown.expand(len(space.prompts), -1)))
        starts = range(0, len(space.prompts), self.batch_size)
        parts = [slice(start, start + self.batch_size) for start in starts]
        return torch.cat([answers.rows(part).loss(model, model.encoder.slice_rows(tensors, part)) for part in parts])

    def _hide(self, space: PixelSpace, hidden: Tensor) -> Tensor:
        rows = [row for row, prompt in enumerate(space.prompts) for _ in prompt.images]
        pictures = zip(space.split(space.values), rows, strict=True)
        return torch.cat([self._one(picture, hidden[row]).flatten() for picture, row in pictures])

    def _one(self, picture: Tensor, hidden: Tensor) -> Tensor:
        height, width, _ = picture.shape
        down, across = (torch.arange(n) * self.side // n for n in (height, width))
        region = down[:, None] * self.side + across
        return torch.where(hidden[region][..., None], picture.mean((0, 1)), picture)
