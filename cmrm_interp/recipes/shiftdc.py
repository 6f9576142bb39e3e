"""ShiftDC, Activation Shift Disentanglement and Calibration (Zou et al., NeurIPS 2025, arXiv 2502.13095).

Claim: an image moves a request's states in the direction that tells safe requests from unsafe ones, so that the model
takes it for safer than it is; taking that component of the move back, and no other, brings the refusals back and
leaves what the image says.

Steps: (1) once, the safety direction of each block (Eq. 4), last token, images told in words:
``s = mean h(harmless) - mean h(harmful)``; (2) for each input, its own shift (Eq. 5), caption by the model itself:
``m = h(request, image) - h(request, caption)``; (3) its component along ``s`` is subtracted (Eq. 6, 7):
``h' = h - alpha * (m . s / |s|^2) s``. The sign and length of ``s`` do not matter. The corrections come from runs
without the recipe and are applied live at all layers, so they add up along the stream.

Equations and defaults are read in the authors' code (Renovamen/ShiftDC). What it leaves open:

- Layers: its default is the upper half of the blocks, its example 10 to 31 of 32; the default here is the upper half.
- Tokens: its first version edits the last prompt token alone; a later one, by its own comment, each generated token,
  too. The default here is the first (`steps="prefill"`).
- Words: ``"{text} Image Caption: {caption}"`` and a concise description, as there. Anchors without an image are taken
  as they are.
- It takes a direction of zero length for no correction; here it is refused, by layer.

Three runs an input: one that captions, two that are read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from cmrm_interp.arguments import check_choice
from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.directions import Directions
from cmrm_interp.estimators import mean_diff, project
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention, Subtract
from cmrm_interp.interventions.base import freeze_layers
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, both_classes, found, need_vision, on_images
from cmrm_interp.recipes.captions import captions, in_words
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.classes import check_apart, states_of
from cmrm_interp.recipes.wording import check_wording


@registered(
    Card(
        name="shiftdc",
        title="ShiftDC",
        paper="Zou et al., NeurIPS 2025",
        arxiv="2502.13095",
        claim="subtracts the part of an input's own shift that lies along the direction from unsafe to safe",
        sure="equations and defaults read in the authors' code, of which two versions edit different tokens",
    )
)
@dataclass(frozen=True, eq=False)
class ShiftDC(Recipe):
    """ShiftDC; see the module's text for the choices.

    Attributes:
        alpha: strength; the paper's is 1.
        layers: at which it acts; None for the upper half of the model's.
        steps: ``"prefill"`` (the last prompt token) or ``"all"`` (generated ones, too).
        question: how the model is asked to describe an image.
        joined: how request and description become one text.
        max_new_tokens: of a description.
        safety: the safety direction that `fit` found at every layer.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "layers", "steps"})

    alpha: float = 1.0
    layers: int | Iterable[int] | None = None
    steps: Literal["prefill", "all"] = "prefill"
    question: str = "Describe the image. Keep your description concise."
    joined: str = "{text} Image Caption: {caption}"
    max_new_tokens: int = 64
    safety: Directions | None = found()

    def __post_init__(self) -> None:
        """Refuse other steps than there are, and a text that leaves something out; keep layers as they are now."""
        check_wording(self, joined=("text", "caption"))
        check_choice("steps of ShiftDC", self.steps, ("prefill", "all"))
        freeze_layers(self)
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find the safety direction of every layer, from anchors whose images are told in words.

        Args:
            model: a vision-language model.
            anchors: `cmrm_interp.Anchors` of both classes, with images or without.

        Raises:
            ModelError: a model that takes text alone.
            InputError: anchors of one class, that do not say which class each is of, or that the model tells not apart.
        """
        need_vision(model, self)
        both = both_classes(anchors, self)
        told = self._told(model, tuple(both))
        split = len(both.harmful)
        harmful, harmless = states_of(model, Anchors(told[:split], told[split:]))
        safety = check_apart(mean_diff(harmless, harmful), harmless)
        return replace(self, safety=safety, model=model.fingerprint, anchors=marks(tuple(both)))

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """Each input's own correction; rows without an image stay as they are.

        Args:
            model: the one that it was fitted on.
            inputs: from the model's `prepare`; each image is described, and each prompt run with image and with words.

        Raises:
            InputError: not fitted, or inputs that have no prompts.
            MismatchError: fitted on another model.
        """
        self.check_model(model)
        safety = self._at_layers(model)
        if not inputs.has_images:
            return []
        corrections = self._corrections(model, inputs, safety)
        subtract = Subtract(corrections, self.alpha, -1 if self.steps == "prefill" else "last")
        return [on_images(inputs, subtract)]

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Strengths; few, for each describes every image again."""
        return {"alpha": [0.25, 0.5, 1.0, 1.5, 2.0]}

    def _told(self, model: Model, prompts: Sequence[Prompt]) -> list[Prompt]:
        said = captions(model, prompts, self.question, self.max_new_tokens)
        return [in_words(prompt, caption, self.joined) for prompt, caption in zip(prompts, said, strict=True)]

    def _at_layers(self, model: Model) -> Directions:
        if self.safety is None:
            raise self.not_fitted()
        chosen = range(model.n_layers // 2, model.n_layers) if self.layers is None else self.layers
        return self.safety.at([chosen] if isinstance(chosen, int) else chosen)

    def _corrections(self, model: Model, inputs: Inputs, safety: Directions) -> Directions:
        hooks = list(safety)
        seen, told = (
            model.capture(inputs, hooks),
            model.capture(model.prepare(self._told(model, inputs.prompts)), hooks),
        )
        own = seen.map(lambda state, hook: state.float() - told[hook].float())
        return Directions(project(own, safety).tensors, rows="batch", model=model.fingerprint, method="ShiftDC")
