"""AlphaSteer (Sheng et al., ICLR 2026, arXiv 2506.07022).

Claim: steering by a vector that is computed from the activation itself, zero on benign prompts by construction,
refuses jailbreaks without refusing benign requests.

Equations, for each chosen block with activations ``h`` of its input at the last token, and ``H_b``, ``H_m`` those of
benign and of malicious prompts, one a column:

- ``P = U0 U0^T`` with U0 the eigenvectors of ``H_b H_b^T`` (uncentred) that have the smallest eigenvalues;
- ``D = argmin ||D P H_m - R||^2 + a ||D P||^2`` in closed form, with the refusal vector ``r`` in every column of R;
- ``h' = h + alpha * D P h``.

As every column of R is the same r, the map is of rank one: ``D P = r w^T``. The method is a linear probe w inside of
the null space whose value, near 1 for malicious prompts and 0 for benign ones, scales the refusal vector.

Read in the released code: blocks 8 to 19 of 32 and their inputs, 0.6 of the dimensions taken for the null space
whatever their eigenvalues (`null_share`), ridge 10, the prompt alone (`steps="prefill"`). There the vector of the last
token is added at every token of the prompt; here each edited token has its own, and the last token alone is edited.
The paper writes the equation so, and only then is the map used where it was fitted.

Ours: ``r = mean h(harmful) - mean h(harmless)`` over the anchors' texts without images (published as the mean
difference between activations of refusal and of compliance; on text an aligned model refuses the one and answers the
other). H_b and H_m are the anchors as given, with the images that they have.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Tensor
from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.errors import InputError
from cmrm_interp.estimators import mean_diff
from cmrm_interp.hooks import check_layers
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import AddLinearMap, Intervention
from cmrm_interp.interventions.base import freeze_layers
from cmrm_interp.model import Model
from cmrm_interp.null_space import null_space_basis, ridge_map, second_moments
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, both_classes, found
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.classes import check_apart, layers_at, states_of


@registered(
    Card(
        name="alphasteer",
        title="AlphaSteer",
        paper="Sheng et al., ICLR 2026",
        arxiv="2506.07022",
        claim="adds a refusal vector by a linear map of the activation that is zero on benign prompts",
        wants="both",
        needs_images=False,
        sure="equations and settings read in the released code; the refusal vector's prompts and the tokens are ours",
    )
)
@dataclass(frozen=True, eq=False)
class AlphaSteer(Recipe):
    """AlphaSteer; see the module's text for the choices.

    Attributes:
        alpha: strength; at 1 the map gives the refusal vector itself, up to ridge and null space.
        null_share: share of the dimensions that the null space of benign activations takes; where few harmless
            anchors leave more dimensions free, all of these.
        ridge: of the map's fit, in units of squared activations summed over anchors.
        layers: at whose inputs it acts; None for those of the paper, as shares of the depth.
        steps: ``"prefill"`` (the prompt's last token) or ``"all"`` (each new token, too).
        maps: what `fit` found.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "steps"})

    alpha: float = 1.0
    null_share: float = 0.6
    ridge: float = 10.0
    layers: int | Iterable[int] | None = None
    steps: Literal["prefill", "all"] = "prefill"
    maps: Mapping[str, Tensor] | None = found()

    def __post_init__(self) -> None:
        """Refuse choices that there are not."""
        name = type(self).__name__
        if self.steps not in ("prefill", "all"):
            raise InputError(f"{name} has no steps={self.steps!r}: use 'prefill' or 'all'")
        if not 0 < self.null_share < 1:
            raise InputError(f"null_share={self.null_share} of {name} is a share of the dimensions: between 0 and 1")
        freeze_layers(self)
        super().__post_init__()

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[float]]:
        """Strengths, and sizes of the null space."""
        return {"alpha": [0.25, 0.5, 0.75, 1.0], "null_share": [0.25, 0.5, 0.75]}

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find the null space of the harmless anchors, and the map of the harmful ones inside of it.

        Args:
            model: the model.
            anchors: of both classes (`cmrm_interp.Anchors`).

        Raises:
            InputError: not both classes, classes with the same states, or too few anchors for ``ridge=0``.
        """
        known = self._checked(model, anchors)
        hooks = f"blocks.{{{','.join(map(str, self._layers(model)))}}}.hook_resid_pre"
        harmful, harmless = states_of(model, known, hooks)
        moments, targets = second_moments(harmless), self._targets(model, known, harmful)
        maps = {}
        for hook in harmful:
            basis = null_space_basis(moments[hook], size=self._size(model, harmless.n_rows))
            maps[hook] = ridge_map(harmful[hook], targets[hook], self.ridge, basis).float()
        return replace(self, maps=maps, model=model.fingerprint, anchors=marks(list(known)))

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The map at the last token.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
        """
        self.check_model(model)
        return [AddLinearMap(self.maps or {}, self.alpha, "last" if self.steps == "all" else -1)]

    def _checked(self, model: Model, anchors: AnchorPrompts) -> Anchors:
        return both_classes(anchors, self)

    def _targets(self, model: Model, anchors: Anchors, harmful: Activations) -> Mapping[str, Tensor]:
        """What the map is to give for the harmful anchors: one vector, or one a row."""
        texts = anchors.without_images()
        refused, answered = (
            model.capture(model.prepare(side), list(harmful)) for side in (texts.harmful, texts.harmless)
        )
        return check_apart(mean_diff(refused, answered), refused)

    def _layers(self, model: Model) -> Iterable[int]:
        return check_layers(self.layers, model.n_layers) or layers_at(model, 8 / 32, 20 / 32)  # type: ignore[arg-type]

    def _size(self, model: Model, n_harmless: int) -> int:
        # What few anchors leave free is all alike, and to take a part of it would be to draw lots.
        free = model.d_model - n_harmless
        return min(max(round(self.null_share * model.d_model), free, 1), model.d_model - 1)
