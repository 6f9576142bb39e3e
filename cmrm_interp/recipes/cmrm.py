"""CMRM, Cross-Modality Representation Manipulation (arXiv 2410.09047, ACL Findings 2025).

Claim: an image moves the hidden states of a request away from the text on which the language model was
aligned; taking the move back at inference brings the refusals back, without training.

Steps: (1) run prompts with a meaningless image and as text alone; (2) at each decoder block take the mean
difference of the last-token states (dataset level, Eq. 4), or the difference for the input itself (sample
level, Eq. 5); (3) subtract alpha times it at the last token of every block while answering (Eq. 3):
``h'(x, img) = h(x, img) - alpha * v`` with ``v = mean [h(x, img0) - h(x)]``.

The sources leave choices open. They are settings, and the defaults say what we take the paper to mean.

- What is subtracted: the mean difference, or (`direction="principal"`) the first principal component of the
  differences. It is not centred, for what is common to all anchors is the shift; it has no sign of its own, and
  gets that of the mean; it has no length, and `scale` gives it one.
- How long it may be: `norm_cap`, `layer_cap` and `scale="unit"` are the safeguards of a reimplementation, for sample
  shifts that leave the states' distribution. Its sigma_1 is not defined; ours is `first_sigma`.
- Where it goes: *live*, each block's output is moved although earlier moves already came through the residual
  stream; *incremental*, each block is moved by what its vector adds to that of the block before; *replace*, the
  token's state is set to what it was without the recipe, less alpha times the vector. Replaced at every block,
  only the last one decides the first new token; earlier ones are read by later tokens.
- When: at the last prompt token and at each generated one, or (`steps="prefill"`) at the last prompt token alone.
  *Replace* is for the prompt alone: a token that the model chose under the recipe was never met without it.
- Which image: blank and white, of the size of the input's own.

The paper prints its sign in two ways; only "towards text" makes sense, and that is what is done.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from cmrm_interp.axes import Tensor
from cmrm_interp.directions import Directions, random_like
from cmrm_interp.errors import InputError
from cmrm_interp.estimators import Scale, difference, mean_diff, principal_direction
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention, Patch, Subtract
from cmrm_interp.interventions.base import freeze_layers
from cmrm_interp.model import Model
from cmrm_interp.prompts import ImageSource
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, found, need_vision, on_images, prompts_of
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.shifts import capped, first_sigma
from cmrm_interp.recipes.stand_ins import check_image, stand_ins

HOOKS = "blocks.*.hook_resid_post"
CHOICES = {
    "level": ("dataset", "sample"),
    "direction": ("mean", "principal"),
    "scale": ("unit", "projection_mean", "projection_std"),
    "application": ("live", "incremental", "replace"),
    "steps": ("all", "prefill"),
}


@registered(
    Card(
        name="cmrm",
        title="CMRM",
        paper="Liu et al., Findings of ACL 2025",
        arxiv="2410.09047",
        claim="subtracts the shift that a meaningless image causes at the last token of every block",
        wants="any",
        sure="equations second-hand; the sources leave choices open, which are arguments",
    )
)
@dataclass(frozen=True, eq=False)
class CMRM(Recipe):
    """CMRM at the dataset or the sample level; see the module's text for the choices.

    Attributes:
        level: ``"dataset"`` (one vector a layer, from anchors) or ``"sample"`` (one an input, from the input).
        alpha: strength; the paper reports its optimum at 1.
        image: the meaningless image: a name of `cmrm_interp.images` or an image.
        direction: ``"mean"`` or ``"principal"``, of the anchors' differences.
        scale: length of the vector: one, the differences' mean component along it (of the mean difference and of an
            input's own, that is the whole), or that component's standard deviation (of a principal component).
        norm_cap: longest length of a vector, in the activations' units; None for any.
        layer_cap: longest length of a vector, in units of the anchors' spread at its layer; None for any. The sample
            level then needs anchors, too.
        application: ``"live"``, ``"incremental"`` or ``"replace"``.
        steps: ``"all"`` or ``"prefill"``.
        layers: at which it acts; None for every one.
        seed: of random meaningless images.
        shift: what `fit` found at the dataset level.
        sigma: the anchors' spread at each layer, where `layer_cap` asks for it.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "norm_cap", "application", "steps", "layers"})

    level: Literal["dataset", "sample"] = "dataset"
    alpha: float = 1.0
    image: str | ImageSource = "blank"
    direction: Literal["mean", "principal"] = "mean"
    scale: Scale = "projection_mean"
    norm_cap: float | None = None
    layer_cap: float | None = None
    application: Literal["live", "incremental", "replace"] = "live"
    steps: Literal["all", "prefill"] = "all"
    layers: int | Iterable[int] | None = None
    seed: int = 0
    shift: Directions | None = found()
    sigma: Mapping[str, Tensor] | None = found()

    def __post_init__(self) -> None:
        """Refuse choices that there are not, or not together."""
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"CMRM has no {name}={getattr(self, name)!r}: use {' or '.join(map(repr, known))}")
        self._check_together()
        check_image(self.image)
        freeze_layers(self)
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find the shift of the dataset level; the sample level needs no anchors and only notes the model.

        Args:
            model: a vision-language model.
            anchors: prompts (texts, `Prompt` objects or Inputs); images of theirs only give the size of the
                meaningless image (and, for blurred or shuffled ones, the image itself).

        Raises:
            InputError: no anchors at the dataset level.
            ModelError: a model that takes text alone.
            ImageError: a meaningless image that needs a real one, for anchors without.
        """
        need_vision(model, self)
        if self.level == "sample" and self.layer_cap is None:
            return replace(self, shift=None, sigma=None, model=model.fingerprint, anchors=())
        prompts = prompts_of(anchors)
        bare = model.prepare([prompt.with_image(None) for prompt in prompts])
        shift, sigma = self._found(model, bare.with_images(stand_ins(prompts, self.image, self.seed)), bare)
        return replace(self, shift=shift, sigma=sigma, model=model.fingerprint, anchors=marks(prompts))

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The subtraction for these inputs; rows without an image stay as they are.

        Args:
            model: the one it was fitted on.
            inputs: from the model's `prepare`; the sample level runs them with the meaningless image and without.

        Raises:
            InputError: not fitted, or the sample level for inputs that have no prompts.
            MismatchError: fitted on another model.
        """
        self.check_model(model)
        shift = self.shift if self.level == "dataset" else self._sample_shift(model, inputs)
        if shift is None:
            raise self.not_fitted()
        acting = self._acting(model, inputs, capped(shift, self.norm_cap, self.layer_cap, self.sigma))
        return [on_images(inputs, acting)]

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Strengths, applied in two ways to the prompt's last token."""
        alphas = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]
        return {"application": ["live", "incremental"], "steps": ["prefill"], "alpha": alphas}

    def randomised(self, seed: int) -> Self:
        """The control: a random vector of the same norm at every layer in the place of the fitted one.

        Raises:
            InputError: the recipe is not fitted at the dataset level.
        """
        if self.shift is None:
            raise InputError("the random control needs a recipe fitted at the dataset level")
        return replace(self, shift=random_like(self.shift, seed))

    def _check_together(self) -> None:
        for name in ("norm_cap", "layer_cap"):
            cap = getattr(self, name)
            if cap is not None and not (math.isfinite(cap) and cap > 0):
                raise InputError(f"CMRM has no {name}={cap}: a length above zero, or None for any")
        if self.scale == "projection_std" and (self.level == "sample" or self.direction == "mean"):
            raise InputError(
                "scale='projection_std' is of the principal component of a data set: add direction='principal',"
                " level='dataset', or use scale='unit' or 'projection_mean'"
            )
        if self.application == "replace" and self.steps == "all":
            raise InputError(
                "application='replace' puts states of the prompt without the recipe, and a generated token has none"
                " (without the recipe the model would have said another): add steps='prefill'"
            )

    def _found(self, model: Model, shown: Inputs, bare: Inputs) -> tuple[Directions | None, dict[str, Tensor] | None]:
        if self.direction == "mean" and self.layer_cap is None:
            # Means need no rows: memory does not grow with the anchors.
            return self._scaled(mean_diff(model.stream(shown, HOOKS), model.stream(bare, HOOKS))), None
        first, second = model.capture(shown, HOOKS), model.capture(bare, HOOKS)
        sigma = None if self.layer_cap is None else first_sigma(first, second)
        if self.level == "sample":
            return None, sigma
        if self.direction == "principal":
            return principal_direction(first, second, scale=self.scale), sigma
        return self._scaled(mean_diff(first, second)), sigma

    def _scaled(self, shift: Directions) -> Directions:
        return shift.unit() if self.scale == "unit" else shift

    def _sample_shift(self, model: Model, inputs: Inputs) -> Directions:
        bare = inputs.without_images()
        shown = bare.with_images(stand_ins(inputs.prompts, self.image, self.seed))
        return self._scaled(difference(model.capture_last(shown, HOOKS), model.capture_last(bare, HOOKS)))

    def _acting(self, model: Model, inputs: Inputs, shift: Directions) -> Intervention:
        moves = shift.increments() if self.application == "incremental" else shift
        subtract = Subtract(moves, self.alpha, "last" if self.steps == "all" else -1, self.layers)
        # A state that is put back as it was comes from a batch of its own, and is not bit-equal.
        if self.application != "replace" or self.alpha == 0:
            return subtract
        clean = model.capture(inputs, HOOKS)
        moved = clean.map(lambda state, hook: state.float() - self.alpha * shift[hook])
        return Patch(moved, -1, self.layers)
