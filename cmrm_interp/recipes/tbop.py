"""TBOP, Two Birds, One Projection (Han et al., arXiv 2603.14825).

Claim: image and language model are coupled by way of a few directions that mean nothing, a bias that any image brings;
without them a model is safer and sees better, both at once.

Steps: (1) the shifts that a blank image causes at the last token of a late layer, ``d_i = h(x_i, blank) - h(x_i)``;
(2) the first ``k`` right singular vectors ``U`` of their matrix; (3) while answering, at that layer and token,
``h' = h - alpha U^T U h``, the projection on what is orthogonal to them.

The abstract is the authors'; the steps are second-hand. Ours, where nothing was found: the layer (three quarters of the
depth), ``k = 1``, no centring (what all shifts have in common is the bias), the last prompt token alone
(`steps="prefill"`; the source says last token and one pass), and `alpha`, which the paper does not have: 1 is its
projection.

What differs from CMRM: the component is removed at its own size in each state, instead of a mean size; what a text
has along these directions is removed with it.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from cmrm_interp.arguments import check_choice
from cmrm_interp.directions import Directions
from cmrm_interp.estimators import principal_direction
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention, ProjectOut
from cmrm_interp.model import Model
from cmrm_interp.prompts import ImageSource
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, found, need_vision, on_images, prompts_of
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.stand_ins import check_image, stand_ins

HOOKS = "blocks.*.hook_resid_post"


@registered(
    Card(
        name="tbop",
        title="TBOP",
        paper="Han et al., 2026",
        arxiv="2603.14825",
        claim="removes the subspace of the shifts that blank images cause, at one late layer",
        wants="any",
        sure="steps second-hand; layer, rank and tokens ours",
    )
)
@dataclass(frozen=True, eq=False)
class TBOP(Recipe):
    """TBOP; see the module's text for the choices.

    Attributes:
        alpha: share of the component that is removed; the paper's is 1.
        k: rank of the subspace.
        layer: at which it acts; None for three quarters of the depth.
        steps: ``"prefill"`` (the last prompt token) or ``"all"`` (generated ones, too).
        image: the meaningless image: a name of `cmrm_interp.images` or an image.
        seed: of random meaningless images.
        bias: the subspace that `fit` found at every layer.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "layer", "steps"})

    alpha: float = 1.0
    k: int = 1
    layer: int | None = None
    steps: Literal["prefill", "all"] = "prefill"
    image: str | ImageSource = "blank"
    seed: int = 0
    bias: Directions | None = found()

    def __post_init__(self) -> None:
        """Refuse choices that there are not."""
        check_choice("steps of TBOP", self.steps, ("prefill", "all"))
        check_image(self.image)
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find the subspace of blank-image shifts at every layer.

        Args:
            model: a vision-language model.
            anchors: prompts; images of theirs only give the size of the meaningless one.

        Raises:
            ModelError: a model that takes text alone.
            InputError: no anchors, or fewer of them than `k`.
        """
        need_vision(model, self)
        prompts = prompts_of(anchors)
        bare = model.prepare([prompt.with_image(None) for prompt in prompts])
        shown = bare.with_images(stand_ins(prompts, self.image, self.seed))
        bias = principal_direction(model.capture(shown, HOOKS), model.capture(bare, HOOKS), k=self.k)
        return replace(self, bias=bias, model=model.fingerprint, anchors=marks(prompts))

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The projection; rows without an image stay as they are.

        Args:
            model: the one that it was fitted on.
            inputs: from the model's `prepare`.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
            HookPointError: a layer that the model does not have.
        """
        self.check_model(model)
        if self.bias is None:
            raise self.not_fitted()
        layer = 3 * model.n_layers // 4 if self.layer is None else self.layer
        positions = "last" if self.steps == "all" else -1
        removed = ProjectOut(self.bias.at([layer]), self.alpha, positions)
        return [on_images(inputs, removed)]

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Ranks, at layers of the upper half."""
        first = model.n_layers // 2
        layers = sorted({first, 3 * model.n_layers // 4, model.n_layers - 1})
        return {"k": [1, 2, 4, 8], "layer": layers}
