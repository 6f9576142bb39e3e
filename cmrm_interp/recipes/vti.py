"""VTI, Visual and Textual Intervention (Liu et al., ICLR 2025, arXiv 2410.15778).

Claim: turning the activations of vision tower and decoder a little, all tokens at all layers, makes a model rely on
what it sees. Published against hallucination; here its mechanics are reused for safety.

Equations:

- text: for each pair the differences of the last token's states, of all blocks one behind another in one long vector
  ``d_i``; ``v = mean_i d_i + c``, with c the first (unit) principal component of the d_i, centred;
- image: for each token of the tower the same, with ``d_i`` the mean over 50 copies of an image in which 99 of 100
  patches are painted in its mean colour, less the image itself;
- at every MLP's output, ``x <- ||x|| * u / ||u||`` with ``u = x / ||x|| + 0.1 * alpha * v / ||v||``, v of that block,
  for all tokens of prompt and answer, alpha = 0.9 on both sides.

Read in the released code: these, and that text states are the blocks' outputs while image states are the blocks'
inputs. Kept from the paper where the code differs: the image side's components are those of each token over all
layers (the code reshapes layers as if they were tokens first). The code leaves the components' sign to the
decomposition; we turn each along the mean.

Ours: the pairs of the text side. There they are answers without and with hallucination. Here they are a harmful anchor
as text alone, which an aligned model refuses, and the same with its image, under which vision-language models comply;
the way from the second to the first. Harmless anchors serve the image side alone. States after the last block are its
output, before the final norm. Patches are painted on the image itself, in a grid of as many cells as the tower has
tokens, and not behind the processor. The image side needs a tower that sees every image as equally many tokens, one
row an image (CLIP's kind): `sides="auto"` leaves it out on others (Qwen2-VL, AnyRes tiles).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.directions import Directions, Rows
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.images import load_image
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import AddKeepingNorm, Intervention
from cmrm_interp.model import Model
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, both_classes, found, need_vision, shown_anchors
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.classes import STREAM
from cmrm_interp.recipes.masking import ASKED, TOWER, fixed_tokens, masked_copy

STEP = 0.1


@registered(
    Card(
        name="vti",
        title="VTI",
        paper="Liu et al., ICLR 2025",
        arxiv="2410.15778",
        claim="turns every token's MLP output, in tower and decoder, towards stable images and towards text states",
        wants="both",
        sure="equations read in the released code; made against hallucination, the pairs for safety are ours",
    )
)
@dataclass(frozen=True, eq=False)
class VTI(Recipe):
    """Visual and textual intervention; see the module's text for the choices.

    Attributes:
        alpha: strength of both sides.
        sides: ``"text"``, ``"image"``, ``"both"``, or ``"auto"``: both where the tower allows it, else text.
        copies: masked copies of each image.
        masked: share of the patches that are painted over.
        demos: how many of the anchors' images are masked, at most; every so many-th is taken, for both classes.
        seed: of the masks.
        textual: what `fit` found for the decoder.
        visual: for the tower, one vector a token.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha"})

    alpha: float = 0.9
    sides: Literal["auto", "text", "image", "both"] = "auto"
    copies: int = 50
    masked: float = 0.99
    demos: int = 70
    seed: int = 0
    textual: Directions | None = found()
    visual: Directions | None = found()

    def __post_init__(self) -> None:
        """Refuse choices that there are not."""
        if self.sides not in ("auto", "text", "image", "both"):
            raise InputError(f"VTI has no sides={self.sides!r}: use 'auto', 'text', 'image' or 'both'")
        if not 0 < self.masked <= 1 or self.copies < 1 or self.demos < 2:
            raise InputError(
                f"VTI with copies={self.copies}, demos={self.demos}, masked={self.masked}: at least 1 copy, 2 demos,"
                " and a share of patches between 0 and 1"
            )
        super().__post_init__()

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Strengths, and sides where there are two."""
        sides = ["text", "both"] if fixed_tokens(model) else ["text"]
        return {"alpha": [0.3, 0.9, 2.0, 4.0, 8.0], "sides": sides}

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find the directions of decoder and tower.

        Args:
            model: a vision-language model.
            anchors: of both classes (`cmrm_interp.Anchors`), with images.

        Raises:
            ModelError: the model takes text alone, or ``sides="both"`` or ``"image"`` where images are not always
                equally many tokens.
            InputError: not both classes, anchors without images, or pairs without any difference.
        """
        need_vision(model, self)
        known = both_classes(anchors, self)
        prompts = shown_anchors(known, self)
        tokens = fixed_tokens(model)
        if self.sides in ("image", "both") and not tokens:
            raise ModelError(
                f"VTI's image side has one vector for each token of an image, and {model.name} ({model.family.name})"
                " sees images of different sizes as different numbers of tokens: use sides='text'"
            )
        textual = visual = None
        if self.sides != "image":
            sides = (known.without_images().harmful, known.harmful)
            text, shown = (model.capture(model.prepare(side), STREAM) for side in sides)
            turn = stacked_direction(torch.cat([text[hook].float() - shown[hook].float() for hook in text], -1))
            textual = _at_mlps(model, turn, list(text), "one")
        if self.sides in ("image", "both") or (self.sides == "auto" and tokens):
            pictures = [load_image(prompt.images[0]) for prompt in prompts[:: max(len(prompts) // self.demos, 1)]]
            visual = self._visual(model, pictures[: self.demos], tokens)
        return replace(self, textual=textual, visual=visual, model=model.fingerprint, anchors=marks(prompts))

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The turns at every MLP's output, of the tower where the inputs have images.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
        """
        self.check_model(model)
        sides = [self.textual, self.visual if inputs.has_images else None]
        return [AddKeepingNorm(side, STEP * self.alpha, "all") for side in sides if side is not None]

    def _visual(self, model: Model, pictures: Sequence[Image.Image], tokens: int) -> Directions:
        if len(pictures) < 2:
            raise InputError("VTI's image side needs two images at least: give more anchors, or sides='text'")
        rng, rows = np.random.default_rng(self.seed), []
        for picture in tqdm(pictures, desc="masked copies", unit="image", delay=2, leave=False):
            copies = [masked_copy(picture, math.isqrt(tokens), self.masked, rng) for _ in range(self.copies)]
            acts = model.capture(model.prepare([ASKED] * (self.copies + 1), [*copies, picture]), TOWER)
            wide = [acts[hook].float() for hook in acts]
            rows.append(torch.cat([x[:-1].mean(0) - x[-1] for x in wide], -1))
        turns = torch.stack([stacked_direction(of_token) for of_token in torch.stack(rows, 1)])
        return _at_mlps(model, turns, list(acts), "tokens")


def stacked_direction(differences: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Mean of some differences plus their first principal component, centred, of length one, turned along the mean.

    Args:
        differences: one a row, of all layers one behind another.

    Raises:
        InputError: the differences are zero.
    """
    wide = differences.double()
    mean = wide.mean(0)
    if not bool(mean.norm() > 0):
        raise InputError("VTI's pairs do not differ, so there is no direction: are their images the same?")
    component = torch.linalg.svd(wide - mean, full_matrices=False)[2][0]
    return mean + component * torch.where(component @ mean < 0, -1.0, 1.0)


def _at_mlps(model: Model, turns: Float[Tensor, "*tokens layers_d"], hooks: Sequence[str], rows: Rows) -> Directions:
    """The parts of long vectors that belong to each layer, of length one, at the outputs of the layers' MLPs."""
    parts = turns.unflatten(-1, (len(hooks), -1)).movedim(-2, 0)
    norms = parts.norm(dim=-1, keepdim=True)
    # A class token is the same for every image before the first block: what it has there is rounding.
    unit = torch.where(norms > 1e-6 * norms.max(), parts / norms, 0.0).float()
    names = [f"{hook.rpartition('.')[0]}.hook_mlp_out" for hook in hooks]
    return Directions(dict(zip(names, unit, strict=True)), rows, model.fingerprint, "VTI")
