"""VLM-Guard (Liu et al., arXiv 2502.10486).

Claim: the language model inside of a vision-language model still tells harmful from harmless requests in text; the
subspace in which it does so ("safety steering directions", SSD) can guide the whole model, without training.

Equations (second-hand, but for the abstract), for each block ``l``, at the last token:

- ``A = [h(q-_i) - h(q+_i)]_i`` over pairs of a harmful and a harmless request as text, ``A = U S V^T``; ``V`` is
  then its first ``rank`` right singular vectors, without centring, each oriented from harmless to harmful.
- ``reading="amplify"``: ``h* = h + alpha g h V^T V`` with the gate ``g = 1`` if ``h . V_1 > 0``, else 0.
- ``reading="project"``: ``h* = h - alpha h V^T V``, onto the orthogonal subspace, as the abstract says; the gate
  stands in the other formula alone.

The two readings contradict each other, as our sources do: one adds what the other takes away.

Ours, where no source says it: the model's own text side stands for its backbone; requests are paired in the order
given (the shorter class begins again); the gate is asked of each edited token's state as it is in this very run;
the last prompt token and each new one are edited, at every block; ``rank`` 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError
from cmrm_interp.estimators import mean_diff, principal_direction
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import DotAbove, Gate, Intervention, ProjectOut
from cmrm_interp.interventions.base import freeze_layers
from cmrm_interp.model import Model
from cmrm_interp.positions import Position
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, found, need_vision
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.classes import AnchorsAs, check_apart, classes_of, paired, states_of


@registered(
    Card(
        name="vlm-guard",
        title="VLM-Guard",
        paper="Liu et al., arXiv 2025",
        arxiv="2502.10486",
        claim="amplifies what tells harmful from harmless text, where it is there (another reading removes it)",
        wants="both",
        needs_images=True,
        sure="abstract read, formulas second-hand; the two disagree, and both readings are there",
    )
)
@dataclass(frozen=True, eq=False)
class VLMGuard(Recipe):
    """VLM-Guard in both readings; see the module's text for the equations.

    Attributes:
        reading: ``"amplify"`` (gated) or ``"project"``.
        alpha: strength; at 1 the component is doubled, or removed.
        rank: directions of the subspace, at each block.
        positions: tokens that are edited.
        layers: blocks at which it acts; None for every one.
        anchors_as: whether anchors are shown as ``"text"`` (the paper) or with their ``"image"``.
        subspace: what `fit` found: ``d_model`` or ``rank d_model`` a block.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"reading", "alpha", "positions", "layers"})

    reading: Literal["amplify", "project"] = "amplify"
    alpha: float = 1.0
    rank: int = 1
    positions: Position = "last"
    layers: int | Iterable[int] | None = None
    anchors_as: AnchorsAs = "text"
    subspace: Directions | None = found()

    def __post_init__(self) -> None:
        """Refuse a reading that there is not; keep the layers as they are now."""
        if self.reading not in ("amplify", "project"):
            raise InputError(f"VLMGuard has no reading={self.reading!r}: use 'amplify' or 'project'")
        freeze_layers(self)
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find the subspace at each block.

        Args:
            model: a vision-language model.
            anchors: of both classes (`cmrm_interp.Anchors`).

        Raises:
            InputError: no classes, fewer pairs than `rank`, or classes with the same states.
            ModelError: a model that takes text alone.
        """
        need_vision(model, self)
        shown = classes_of(anchors, self, self.anchors_as)
        harmful, harmless = paired(*states_of(model, shown))
        check_apart(mean_diff(harmful, harmless), harmful)
        subspace = principal_direction(harmful, harmless, k=self.rank, scale="unit")
        return replace(self, subspace=subspace, model=model.fingerprint, anchors=marks(shown))

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The gated amplification, or the projection.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
        """
        self.check_model(model)
        assert self.subspace is not None
        if self.reading == "project":
            return [ProjectOut(self.subspace, self.alpha, self.positions, self.layers)]
        first = replace(self.subspace.map(lambda rows, _: rows.reshape(-1, rows.shape[-1])[0]), rows="one")
        return [Gate(DotAbove(first), ProjectOut(self.subspace, -self.alpha, self.positions, self.layers))]

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Readings, strengths and ranks."""
        return {"reading": ["amplify", "project"], "alpha": [0.1, 0.25, 0.5, 1.0], "rank": [1, 4]}
