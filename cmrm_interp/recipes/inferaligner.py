"""InferAligner (Wang et al., EMNLP 2024, arXiv 2401.11206).

Claim: how an aligned model tells harmful from harmless requests can steer a model that no longer refuses, at
inference and only where that model itself sees harm.

Equations (second-hand; no code was published), for each chosen block ``l``, with states ``h`` at the last token:

- safety steering vector ``theta = mean h(harmful) - mean h(harmless)`` of the *aligned* model;
- guidance ``s = mean h(harmful) - mean h(harmless)`` of the *guarded* model, and the gate ``g = 1`` if
  ``s . h_last + b > 0``, else 0;
- every token: ``x <- x + alpha g theta``.

The aligned model is by default the guarded model's own text side, which a vision-language model's alignment comes
from; ``aligned=safety_vectors(backbone, anchors)`` takes another model of the same layers and widths.

Ours, where no source says it: ``bias="midpoint"`` puts the threshold half-way between the mean projections of the
two classes, ``b = -s . (mean h(harmful) + mean h(harmless)) / 2``; the gate is decided once a prompt and block, in
a pass of its own over the prompt as it is, so that what lower blocks add does not open the gates of higher ones;
blocks from a third to two thirds of the depth. ``anchors_as="image"`` learns guidance and bias on anchors
with their images, which is where a vision-language model uses them; theta stays of the text.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from cmrm_interp.axes import Tensor
from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.estimators import mean_diff
from cmrm_interp.hooks import check_layers
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Add, ByRow, Gate, Intervention
from cmrm_interp.interventions.base import freeze_layers
from cmrm_interp.model import Model
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, found
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.classes import AnchorsAs, check_apart, classes_of, layers_at, states_of


def safety_vectors(model: Model, anchors: Anchors) -> Directions:
    """Safety steering vectors of an aligned model: mean state of harmful less harmless text, at every block's output.

    Args:
        model: the aligned one, at the last token of which they are read.
        anchors: of both classes; their images are not looked at.

    Raises:
        InputError: the classes have the same states.
    """
    harmful, harmless = states_of(model, anchors.without_images())
    return check_apart(mean_diff(harmful, harmless), harmful)


@registered(
    Card(
        name="inferaligner",
        title="InferAligner",
        paper="Wang et al., EMNLP 2024",
        arxiv="2401.11206",
        claim="adds an aligned model's harmful-minus-harmless vector where the model's own states look harmful",
        wants="both",
        needs_images=False,
        sure="equations second-hand; alpha, bias and layers are not published with the method's repository",
    )
)
@dataclass(frozen=True, eq=False)
class InferAligner(Recipe):
    """InferAligner; see the module's text for the equations.

    Attributes:
        alpha: strength.
        bias: of the gates: ``"midpoint"`` for each block's own, or one number for all.
        aligned: safety steering vectors of another model (`safety_vectors`); None for the model's own text side.
        layers: blocks at which it acts; None for those from a third to two thirds of the depth.
        anchors_as: whether guidance and bias are learnt from anchors as ``"text"`` or with their ``"image"``.
        steering, guidance: what `fit` found: theta and s, one vector a block.
        midpoints: the projection half-way between the classes, by block's hook point.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "bias", "layers"})

    alpha: float = 1.0
    bias: float | Literal["midpoint"] = "midpoint"
    aligned: Directions | None = None
    layers: int | Iterable[int] | None = None
    anchors_as: AnchorsAs = "text"
    steering: Directions | None = found()
    guidance: Directions | None = found()
    midpoints: Mapping[str, Tensor] | None = found()

    def __post_init__(self) -> None:
        """Refuse a bias that there is not; keep the layers as they are now."""
        if self.bias != "midpoint" and (isinstance(self.bias, str) or math.isnan(self.bias)):
            raise InputError(f"InferAligner has no bias={self.bias!r}: use 'midpoint' or a number")
        freeze_layers(self)
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find steering vectors, guidance and midpoints.

        Args:
            model: the one to be guarded.
            anchors: of both classes (`cmrm_interp.Anchors`).

        Raises:
            InputError: no classes, or classes with the same states.
            MismatchError: the aligned model's vectors have other layers or another width.
        """
        shown = classes_of(anchors, self, self.anchors_as)
        harmful, harmless = states_of(model, shown)
        guidance = check_apart(mean_diff(harmful, harmless), harmful)
        midpoints = {
            hook: guidance[hook].double() @ (harmful[hook].double().mean(0) + harmless[hook].double().mean(0)) / 2
            for hook in guidance
        }
        own = guidance if self.anchors_as == "text" else None
        steering = self._borrowed(guidance) if self.aligned else own or safety_vectors(model, shown)
        found_out = {"steering": steering, "guidance": guidance, "midpoints": midpoints}
        return replace(self, **found_out, model=model.fingerprint, anchors=marks(shown))

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """One gated addition a block; the gates are decided by one pass over the prompts as they are.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
            HookPointError: a layer that there is not.
        """
        self.check_model(model)
        assert self.steering is not None
        chosen = layers_at(model, 1 / 3, 2 / 3) if self.layers is None else check_layers(self.layers, model.n_layers)
        open_at = self.gates(model, inputs, chosen or ())
        return [
            Gate(ByRow(open_at[hook]), Add(self.steering.at([layer]), self.alpha, "all"))
            for layer, hook in zip(chosen or (), open_at, strict=True)
        ]

    def gates(self, model: Model, inputs: Inputs, layers: Iterable[int]) -> dict[str, Tensor]:
        """Which prompts are steered, by hook point: booleans ``batch``."""
        assert self.guidance is not None
        assert self.midpoints is not None
        hooks = [f"blocks.{layer}.hook_resid_post" for layer in layers]
        states = model.capture(inputs, hooks)
        bias = {hook: -self.midpoints[hook] if self.bias == "midpoint" else self.bias for hook in hooks}
        return {hook: states[hook].double() @ self.guidance[hook].double() + bias[hook] > 0 for hook in hooks}

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Strengths, and how anchors are shown."""
        shown = ["text", "image"] if model.encoder.can_see else ["text"]
        return {"alpha": [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5], "anchors_as": shown}

    def _borrowed(self, own: Directions) -> Directions:
        assert self.aligned is not None
        shapes = {hook: tuple(vector.shape) for hook, vector in self.aligned.tensors.items()}
        wanted = {hook: tuple(vector.shape) for hook, vector in own.tensors.items()}
        if shapes != wanted:
            raise MismatchError(
                f"the aligned model's vectors ({len(shapes)} hook points of width {set(shapes.values())}) do not fit"
                f" this model's ({len(wanted)} of {set(wanted.values())}): take a model of the same layers and widths"
            )
        return self.aligned.transfer()
