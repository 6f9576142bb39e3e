"""NullSteer (Zhu et al., CVPR 2026, arXiv 2603.22094): AlphaSteer for vision-language models.

Claim: a linear map that is zero on benign prompts *with images* and leads harmful ones towards refusal defends
against jailbreaks by images without refusing benign requests.

No code was published, and of the method we know the abstract and a summary: a linear transformation, no perturbation
within the benign subspace, refusal along harmful directions. So this is ours, with the equations of
`cmrm_interp.recipes.alphasteer` and two things of its own:

- benign activations ``H_b`` are those of harmless anchors with their images, harmful ones ``H_m`` with theirs;
- the refusing state of a harmful request is the one that it has as text alone, where the language model's alignment
  still holds. Row i of the target is ``r_i = h_i(text) - h_i(text and image)``: each request's own way back
  (`target="each"`), or their mean (`target="mean"`), with which the map is of rank one again.

A prompt without an image stays as it is: there is nothing to lead it back from, and nothing makes the map zero on
benign text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Tensor
from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.errors import InputError
from cmrm_interp.estimators import difference, mean_diff
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.model import Model
from cmrm_interp.recipes.alphasteer import AlphaSteer
from cmrm_interp.recipes.base import AnchorPrompts, both_classes, need_vision, on_images, shown_anchors
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.classes import check_apart


@registered(
    Card(
        name="nullsteer",
        title="NullSteer",
        paper="Zhu et al., CVPR 2026",
        arxiv="2603.22094",
        claim="leads requests with images back to their states as text by a map that is zero on benign images",
        wants="both",
        sure="no code was published: ours, after the abstract, with AlphaSteer's equations",
    )
)
@dataclass(frozen=True, eq=False)
class NullSteer(AlphaSteer):
    """NullSteer; settings as in `AlphaSteer`, and what the map is to give.

    Attributes:
        target: ``"each"`` request's own difference of states, or their ``"mean"``.
    """

    applied: ClassVar[frozenset[str]] = AlphaSteer.applied

    target: Literal["each", "mean"] = "each"

    def __post_init__(self) -> None:
        """Refuse choices that there are not."""
        if self.target not in ("each", "mean"):
            raise InputError(f"NullSteer has no target={self.target!r}: use 'each' or 'mean'")
        super().__post_init__()

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[float]]:
        """Strengths, and sizes of the null space."""
        return {"alpha": [0.5, 1.0, 2.0, 4.0], "null_share": [0.25, 0.5, 0.75]}

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The map at the last token of prompts with images; raises as `AlphaSteer.interventions` does."""
        return [on_images(inputs, acting) for acting in super().interventions(model, inputs)]

    def _checked(self, model: Model, anchors: AnchorPrompts) -> Anchors:
        need_vision(model, self)
        known = both_classes(anchors, self)
        shown_anchors(known, self)
        return known

    def _targets(self, model: Model, anchors: Anchors, harmful: Activations) -> Mapping[str, Tensor]:
        text = model.capture(model.prepare(anchors.without_images().harmful), list(harmful))
        mean = check_apart(mean_diff(text, harmful), harmful)
        return mean if self.target == "mean" else difference(text, harmful)
