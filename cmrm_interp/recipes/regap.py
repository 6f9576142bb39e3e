"""ReGap, adaptive correction of the modality drift (Guo et al., arXiv 2605.18104).

Claim: an image drifts states in a direction that presses harmful and harmless requests together along the refusal
direction of text. When the drift is taken back, the model recognises harmful requests again by itself, and this
*self-rectification* says, for each input, how much of the correction it needs.

The abstract is the authors'; formula, layers and strengths are not published. What follows is OURS, a composition of
the parts that the abstract names, with all states at the last prompt token:

- drift at each layer, of harmless anchors with their own images: ``c = mean [h(x, img) - h(x)]``;
- refusal direction of text: ``r = mean h(harmful) - mean h(harmless)``, anchors without images;
- a trial at fixed strength: each layer of `layers` is moved by ``- alpha (c^l - c^(l-1))`` (with all of them the stream
  at layer l by ``- alpha c^l``), and the state ``h~`` is read at one of them;
- self-rectification: where ``h~`` lies on the way from harmless text to harmful text,
  ``w = clamp((h~ - mean h(harmless)) . r / |r|^2, 0, 1)``;
- the answer is given under ``w`` times the trial's moves.

So an input that still looks harmless once the drift is gone keeps what its image did, and one that looks as harmful as
harmful text gets the whole correction. One more run of the prompt an input.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.estimators import mean_diff
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import ByRow, Gate, Intervention, Subtract
from cmrm_interp.interventions.base import freeze_layers
from cmrm_interp.model import Model
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, both_classes, found, need_vision, shown_anchors
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.classes import STREAM, check_apart, states_of


@registered(
    Card(
        name="regap",
        title="ReGap (ours)",
        paper="Guo et al., 2026",
        arxiv="2605.18104",
        claim="takes the image's drift back as far as the model, without it, finds the request harmful",
        sure="formula never published: ours, from what the abstract names",
    )
)
@dataclass(frozen=True, eq=False)
class ReGap(Recipe):
    """Our reading of ReGap; see the module's text for its equations.

    Attributes:
        alpha: strength of the trial, and of the correction of what looks as harmful as harmful text.
        layers: at which states are moved; None for every one.
        read_layer: at which the signal is read; None for half of the depth.
        drift: what `fit` found at every layer, as are the others.
        refusal: the refusal direction of text.
        harmless: mean state of harmless text.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "layers", "read_layer"})

    alpha: float = 1.0
    layers: int | Iterable[int] | None = None
    read_layer: int | None = None
    drift: Directions | None = found()
    refusal: Directions | None = found()
    harmless: Mapping[str, Tensor] | None = found()

    def __post_init__(self) -> None:
        """Keep the layers as they are now."""
        freeze_layers(self)
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find the drift and the refusal direction of every layer.

        Args:
            model: a vision-language model.
            anchors: `cmrm_interp.Anchors` of both classes; the harmless ones with images.

        Raises:
            ModelError: a model that takes text alone.
            InputError: anchors of one class, that do not say which class each is of, or harmless ones without images.
        """
        need_vision(model, self)
        both = both_classes(anchors, self)
        shown = model.prepare(shown_anchors(both.harmless, self))
        harmful, text = states_of(model, both.without_images())
        drift = mean_diff(model.stream(shown, STREAM), text)
        return replace(
            self,
            drift=drift,
            refusal=check_apart(mean_diff(harmful, text), text),
            harmless={hook: states.double().mean(0).float() for hook, states in text.items()},
            model=model.fingerprint,
            anchors=marks(tuple(both)),
        )

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The correction, each row by as much as its own trial said; rows without an image stay as they are.

        Args:
            model: the one that it was fitted on.
            inputs: from the model's `prepare`; they are run once more for the trial.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
            HookPointError: a layer that the model does not have.
        """
        self.check_model(model)
        if self.drift is None:
            raise self.not_fitted()
        moves = Subtract(self.drift.increments(), self.alpha, -1, self.layers)
        weights = self.harmfulness(model, inputs, moves) * inputs.rows_with_image
        return [Gate(ByRow(weights), moves)]

    def harmfulness(self, model: Model, inputs: Inputs, moves: Intervention) -> Float[Tensor, " batch"]:
        """How far each input lies from harmless to harmful text, 0 to 1, while `moves` act."""
        assert self.refusal is not None
        assert self.harmless is not None
        layer = model.n_layers // 2 if self.read_layer is None else self.read_layer
        ((hook, r),) = self.refusal.at([layer]).items()
        states = model.capture(inputs, hook, interventions=moves)[hook].float()
        return ((states - self.harmless[hook]) @ r / (r @ r)).clamp(0, 1)

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Strengths (the drift of harmless requests is short), read at two layers of the upper half."""
        layers = sorted({model.n_layers // 2, 3 * model.n_layers // 4})
        return {"read_layer": layers, "alpha": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0]}
