"""ASTRA, steering away from adversarial features (Wang et al., arXiv 2411.16721, CVPR 2025).

Claim: what an adversarial picture does to a model has a direction, which is found by hiding the regions that matter,
and taken away from those states alone that point along it.

Steps: (1) pictures are made adversarial by projected gradient descent on the model's own gradients; (2) attribution by
random masks (in the manner of ContextCite) finds the regions that make the model comply, and these are hidden; (3) at
the last token of a prompt that has a picture and no words, ``v = mean_i [h(adv_i) - h(adv_i, regions hidden)]``;
(4) ``h0`` is the mean of reference states; (5) at the last token, at each step, after one block,
``c = clamp(cos(h - h0, v), 0, 1) * alpha * |h|`` and ``h <- h - c * v / |v|``.

Steps 3 to 5 follow the authors' code; layer 20 of the 40 of LLaVA-1.5-13B (14 of the 28 of Qwen2-VL) is the output of
the block before it, so the default is block ``n / 2 - 1``; alpha is 10 there (7 for Qwen2-VL). Ours, for a model
without a published set of adversarial pictures: they are made from the harmful anchors' own pictures and requests,
towards the opening that the model itself gives its answers to harmless ones most often (or `target`), within 16/255;
regions are the cells of a 4 x 4 grid, a quarter of which is hidden under the picture's mean colour; the reference
states are those of the harmless anchors with their pictures. A prompt without a picture is treated as any other.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch

from cmrm_interp.attacks.pgd import PGD
from cmrm_interp.attacks.pixels import pixel_space
from cmrm_interp.attacks.regions import RegionScores
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError
from cmrm_interp.estimators import mean_diff
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import CosineFrom, Gate, Intervention, SubtractRelative
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, both_classes, found, need_vision, shown_anchors
from cmrm_interp.recipes.card import Card, registered

HOOKS = "blocks.*.hook_resid_post"
# Tokens of a model's answer that are its opening.
OPENING = 3


@registered(
    Card(
        name="astra",
        title="ASTRA",
        paper="Wang et al., CVPR 2025",
        arxiv="2411.16721",
        claim="takes away what adversarial pictures add, from states that point along it",
        sure="steps 3 to 5 read in the authors' code; how pictures are made and masked for other models is ours",
    )
)
@dataclass(frozen=True, eq=False)
class ASTRA(Recipe):
    """ASTRA; see the module's text for the choices.

    Attributes:
        alpha: strength, in norms of the state at a cosine of 1.
        layer: block behind which it acts; None for the one before the middle.
        n_images: how many of the harmful anchors' pictures are made adversarial.
        epsilon: how far each of their values may go, where black is 0 and white is 1.
        steps: of the attack.
        side: regions on a side of the grid.
        hidden: how many of the regions are hidden, those with the highest scores.
        masks: how many random masks the scores come from.
        target: the beginning of a compliant answer; None for the model's own.
        seed: of the attack's start and of the masks.
        direction: what `fit` found, ``v``.
        origin: what `fit` found, ``h0``.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "layer"})

    alpha: float = 10.0
    layer: int | None = None
    n_images: int = 16
    epsilon: float = 16 / 255
    steps: int = 50
    side: int = 4
    hidden: int = 4
    masks: int = 64
    target: str | None = None
    seed: int = 0
    direction: Directions | None = found()
    origin: Directions | None = found()

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        _ = self._attack, self._scores
        if self.n_images < 1:
            raise InputError(f"ASTRA with n_images={self.n_images}: give at least 1")
        if not 1 <= self.hidden < self.side**2:
            raise InputError(f"ASTRA with hidden={self.hidden} of {self.side**2} regions: give 1 to {self.side**2 - 1}")
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Make pictures adversarial, hide what makes them so, and find what that changes.

        Args:
            model: a vision-language model on this machine, in bf16 or fp32.
            anchors: of both classes, each with an image.

        Raises:
            InputError: anchors of one class, or without images; a direction of zero norm.
            ModelError: a model that takes text alone, without gradients, or with a processor that cuts pictures.
        """
        need_vision(model, self)
        given = both_classes(anchors, self)
        shown_anchors(given, self)
        harmless = model.prepare(list(given.harmless))
        target = self.target or opening(model, list(given.harmless[: self.n_images]))
        attacked = self._attack.attack(model, model.prepare(list(given.harmful[: self.n_images])), target).inputs
        covered = self._covered(model, attacked, target)
        direction = mean_diff(model.stream(_wordless(model, attacked), HOOKS), model.stream(covered, HOOKS))
        _check_length(direction)
        states = model.capture(harmless, HOOKS)
        means = {name: states.selected(name).double().mean(0).float() for name in states}
        origin = Directions(means, rows="one", model=model.fingerprint, method="mean of the harmless anchors")
        return replace(self, direction=direction, origin=origin, model=model.fingerprint, anchors=marks(given))

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The gated subtraction at the last token of the prompt and at each new one.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
            HookPointError: a layer that the model does not have.
        """
        self.check_model(model)
        if self.direction is None or self.origin is None:
            raise self.not_fitted()
        layer = max(model.n_layers // 2 - 1, 0) if self.layer is None else self.layer
        subtract = SubtractRelative(self.direction, self.alpha, "last", layer)
        return [Gate(CosineFrom(self.direction, self.origin), subtract)]

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Strengths, at the layer of the paper and at two later ones."""
        n = model.n_layers
        layers = dict.fromkeys(max(part, 0) for part in (n // 2 - 1, 3 * n // 4 - 1, n - 1))
        return {"alpha": [0.5, 1.0, 2.0, 4.0, 10.0], "layer": list(layers)}

    @property
    def _attack(self) -> PGD:
        return PGD(epsilon=self.epsilon, steps=self.steps, seed=self.seed)

    @property
    def _scores(self) -> RegionScores:
        return RegionScores(self.side, self.masks, self.seed)

    def _covered(self, model: Model, attacked: Inputs, target: str) -> Inputs:
        """The adversarial pictures with the regions hidden that make the target likely, without words."""
        space = pixel_space(model, attacked)
        scores = self._scores.of(model, space, target)
        hidden = torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.topk(self.hidden).indices, True)
        return _wordless(model, model.prepare(space.shown(self._scores.without(space, hidden))))


def opening(model: Model, prompts: Sequence[Prompt]) -> str:
    """How the model begins most of its answers to some prompts.

    Raises:
        InputError: it says nothing.
    """
    answers = [answer.strip() for answer in model.generate(model.prepare(prompts), max_new_tokens=OPENING)]
    counted = Counter(filter(None, answers))
    if not counted:
        raise InputError(
            f"{model.name} answers none of the harmless anchors, so its answers have no opening that pictures could"
            " be attacked towards: give one, target='sure, here is'"
        )
    return counted.most_common(1)[0][0]


def _wordless(model: Model, inputs: Inputs) -> Inputs:
    return model.prepare([replace(prompt, text="") for prompt in inputs.prompts])


def _check_length(direction: Directions) -> None:
    flat = [name for name, vector in direction.items() if not float(vector.norm()) > 0]
    if flat:
        raise InputError(
            f"hiding regions of the adversarial pictures changes nothing at {flat[0]!r}, so ASTRA's direction has zero"
            " norm there: take more anchors, or regions that cover more (hidden=)"
        )
