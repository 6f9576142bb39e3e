"""CAST, conditional activation steering (Lee et al., ICLR 2025, arXiv 2409.05907).

Claim: a model steers itself into refusing where a condition, read off its states for the prompt, holds, and answers
everything else as before.

Equations (read in the authors' code):

- vectors by PCA on pairs of a harmful and a harmless prompt, each centred on its pair, one component: the first right
  singular vector of the pairs' differences, uncentred; its sign from the labels;
- condition: ``sim = cos(h, tanh(P h))`` with ``P = c c^T / (c^T c)`` and ``h`` the mean over the prompt's tokens at
  one layer; it holds if ``sim > threshold`` (or ``<``, whichever way was learnt); layer, threshold and direction are
  those with the best F1 score on the anchors (harmful is positive);
- if it holds, every token of the prompt and of the answer: ``x <- x + alpha b`` at the behaviour layers, 15 to 23 of
  32 in the authors' example.

Ours, where the method meets images or our anchors: ``over="text"`` leaves image tokens out of the mean, because
hundreds of them would drown the request (without an image it is the paper's mean; ``over="last"`` takes the last
token alone). The behaviour vector is of the last token of the same anchors, because an aligned model is about to
refuse the one class and to answer the other (the authors contrast written refusals and answers). It has the length of
the mean projection of the differences on it, so that alpha 1 is of the size of the classes' distance
(``scale="unit"``: the authors' unit length, with alpha 1.5 in their example). Pairs are in the order given; the
shorter class begins again. Thresholds tried lie half-way between neighbouring similarities; of equally good ones
the one with the widest margin is taken. The condition is decided in a pass of its own over the prompt.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch

from cmrm_interp.activations import Activations, concatenate
from cmrm_interp.axes import Bool, Float, Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError
from cmrm_interp.estimators import Scale, mean_diff, principal_direction
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Add, ByRow, Gate, Intervention
from cmrm_interp.interventions.base import freeze_layers
from cmrm_interp.model import Model
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, found
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.classes import STREAM, AnchorsAs, check_apart, classes_of, layers_at, paired, states_of


@registered(
    Card(
        name="cast",
        title="CAST",
        paper="Lee et al., ICLR 2025",
        arxiv="2409.05907",
        claim="adds a refusal vector at middle layers to prompts whose mean state is like that of harmful ones",
        wants="both",
        needs_images=False,
        sure="read in the authors' code; the behaviour vector is of the anchors, not of written refusals",
    )
)
@dataclass(frozen=True, eq=False)
class CAST(Recipe):
    """CAST; see the module's text for the equations.

    Attributes:
        alpha: strength of the behaviour vector.
        layers: behaviour layers; None for those between 15/32 and 24/32 of the depth.
        over: tokens whose mean state the condition reads: ``"text"``, ``"prompt"`` (image tokens too) or ``"last"``.
        condition_layers: layers that the condition may be read at; None for every one.
        scale: length of the behaviour vector, as in `cmrm_interp.principal_direction`.
        anchors_as: whether anchors are shown as ``"text"`` (the paper) or with their ``"image"``.
        behaviour: what `fit` found: a vector a block.
        condition: the condition's vector, at its block.
        threshold, above: the condition holds if the similarity is above the threshold (below it, if not `above`).
        f1: of the condition, on the anchors.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "layers"})

    alpha: float = 1.0
    layers: int | Iterable[int] | None = None
    over: Literal["text", "prompt", "last"] = "text"
    condition_layers: int | Iterable[int] | None = None
    scale: Scale = "projection_mean"
    anchors_as: AnchorsAs = "text"
    behaviour: Directions | None = found()
    condition: Directions | None = found()
    threshold: float | None = found()
    above: bool = found(True)
    f1: float | None = found()

    def __post_init__(self) -> None:
        """Refuse tokens that there are not; keep the layers as they are now."""
        if self.over not in ("text", "prompt", "last"):
            raise InputError(f"CAST has no over={self.over!r}: use 'text', 'prompt' or 'last'")
        freeze_layers(self)
        if self.condition_layers is not None:
            read = self.condition_layers
            object.__setattr__(self, "condition_layers", (read,) if isinstance(read, int) else tuple(read))
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find the behaviour vectors, and the condition with the best F1 score.

        Args:
            model: any that refuses.
            anchors: of both classes (`cmrm_interp.Anchors`).

        Raises:
            InputError: no classes, or classes with the same states.
            HookPointError: a condition layer that there is not.
        """
        shown = classes_of(anchors, self, self.anchors_as)
        last = paired(*states_of(model, shown))
        check_apart(mean_diff(*last), last[0])
        behaviour = principal_direction(*last, scale=self.scale)
        pooled = paired(*(self.pooled(model, model.prepare(part)) for part in (shown.harmful, shown.harmless)))
        vectors = principal_direction(*pooled, scale="unit")
        vectors = vectors if self.condition_layers is None else vectors.at(self.condition_layers)  # type: ignore[arg-type]
        tried = [(hook, *best_threshold(*(similarity(p[hook], vectors[hook]) for p in pooled))) for hook in vectors]
        # Of equals the first, which is the earliest layer.
        hook, f1, _, threshold, above = max(tried, key=lambda one: (one[1], one[2]))
        condition = replace(vectors, tensors={hook: vectors[hook]})
        found_out = {"behaviour": behaviour, "condition": condition, "threshold": threshold, "above": above, "f1": f1}
        return replace(self, **found_out, model=model.fingerprint, anchors=marks(shown))

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The behaviour vector, for the prompts for which the condition holds.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
        """
        self.check_model(model)
        assert self.behaviour is not None
        layers = layers_at(model, 15 / 32, 24 / 32) if self.layers is None else self.layers
        return [Gate(ByRow(self.holds(model, inputs)), Add(self.behaviour, self.alpha, "all", layers))]

    def holds(self, model: Model, inputs: Inputs) -> Bool[Tensor, " batch"]:
        """For which prompts the condition holds."""
        assert self.condition is not None
        assert self.threshold is not None
        (hook,) = self.condition
        sims = similarity(self.pooled(model, inputs, hook)[hook], self.condition[hook])
        return sims > self.threshold if self.above else sims < self.threshold

    def pooled(self, model: Model, inputs: Inputs, hooks: str = STREAM) -> Activations:
        """The state that the condition reads: mean over the chosen tokens of each prompt, ``batch d_model``."""
        if self.over == "last":
            return model.capture(inputs, hooks)
        return concatenate([_mean(part) for part in model.stream(inputs, hooks, self.over)])

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Strengths, and tokens that the condition reads."""
        return {"alpha": [0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0], "over": ["text", "last"]}


def similarity(h: Float[Tensor, "batch d_model"], c: Float[Tensor, " d_model"]) -> Float[Tensor, " batch"]:
    """``cos(h, tanh(P h))`` with ``P`` the projection on ``c``, in fp64; the sign of ``c`` does not matter."""
    wide, unit = h.double(), c.double() / c.double().norm()
    along = torch.tanh((wide @ unit)[:, None] * unit)
    return torch.nn.functional.cosine_similarity(wide, along, dim=-1)


def best_threshold(harmful: Float[Tensor, " n"], harmless: Float[Tensor, " m"]) -> tuple[float, float, float, bool]:
    """The threshold between two classes with the best F1 score, harmful ones being positive.

    Returns:
        F1 score, distance between the neighbours that the threshold lies between, threshold, and whether the
        harmful ones are above it. Of equally good thresholds the one with the widest margin.
    """
    levels = torch.cat([harmful, harmless]).unique()
    if len(levels) < 2:
        return 0.0, 0.0, float(levels[0]), True
    cuts, margins = (levels[1:] + levels[:-1]) / 2, levels.diff()
    found = []
    for above in (True, False):
        hit, false = ((part[:, None] > cuts if above else part[:, None] < cuts).sum(0) for part in (harmful, harmless))
        f1 = 2 * hit / (hit + false + len(harmful))
        found += [(*one, above) for one in zip(f1.tolist(), margins.tolist(), cuts.tolist(), strict=True)]
    return max(found)


def _mean(acts: Activations) -> Activations:
    assert acts.mask is not None
    real = acts.mask.double()[:, :, None]
    means = {n: ((t.double() * real).sum(1) / real.sum(1)).float() for n, t in acts.tensors.items()}
    return replace(acts, tensors=means, mask=None, positions="last")
