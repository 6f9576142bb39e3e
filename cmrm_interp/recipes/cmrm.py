"""CMRM, Cross-Modality Representation Manipulation (arXiv 2410.09047, ACL Findings 2025).

Claim: an image moves the hidden states of a request away from the text on which the language model was
aligned; taking the move back at inference brings the refusals back, without training.

Steps: (1) run prompts with a meaningless image and as text alone; (2) at each decoder block take the mean
difference of the last-token states (dataset level, Eq. 4), or the difference for the input itself (sample
level, Eq. 5); (3) subtract alpha times it at the last token of every block while answering (Eq. 3):
``h'(x, img) = h(x, img) - alpha * v`` with ``v = mean [h(x, img0) - h(x)]``.

The sources leave choices open; they are arguments, and the defaults say what we take the paper to mean:
the mean difference (a principal component is `direction="principal"`), applied *live* (each block's output
is moved although earlier moves already came through the residual stream; `application="incremental"` moves
each block by what its vector adds to the one before), at every layer, at the last prompt token and at each
generated one (`steps="prefill"` stops after the prompt), with a blank white image of the input's size.
The paper prints its sign in two ways; only "towards text" makes sense, and that is what is done.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

from PIL import Image

from cmrm_interp.directions import Directions, random_like
from cmrm_interp.errors import ImageError, InputError
from cmrm_interp.estimators import difference, mean_diff, principal_direction
from cmrm_interp.images import MAKERS, load_image, meaningless
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Gate, HasImage, Intervention, Subtract
from cmrm_interp.model import Model
from cmrm_interp.prompts import Images, ImageSource, Prompt
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, found, need_vision, prompts_of
from cmrm_interp.recipes.card import Card, registered

HOOKS = "blocks.*.hook_resid_post"
# Where an anchor has no image of its own, the blank one has the size that LLaVA-1.5 sees.
NATIVE = (336, 336)


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
        direction: ``"mean"`` or ``"principal"`` (uncentred, oriented, scaled by its mean projection).
        application: ``"live"`` or ``"incremental"``.
        steps: ``"all"`` or ``"prefill"``.
        layers: at which it acts; None for every one.
        seed: of random meaningless images.
        shift: what `fit` found.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "application", "steps", "layers"})

    level: Literal["dataset", "sample"] = "dataset"
    alpha: float = 1.0
    image: str | ImageSource = "blank"
    direction: Literal["mean", "principal"] = "mean"
    application: Literal["live", "incremental"] = "live"
    steps: Literal["all", "prefill"] = "all"
    layers: int | Iterable[int] | None = None
    seed: int = 0
    shift: Directions | None = found()

    def __post_init__(self) -> None:
        """Refuse choices that there are not."""
        choices = {
            "level": ("dataset", "sample"),
            "direction": ("mean", "principal"),
            "application": ("live", "incremental"),
            "steps": ("all", "prefill"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(f"CMRM has no {name}={getattr(self, name)!r}: use {' or '.join(map(repr, known))}")
        if isinstance(self.image, str) and self.image not in MAKERS and not Path(self.image).exists():
            meaningless(self.image, Image.new("RGB", (8, 8)))
        if self.layers is not None:
            chosen = (self.layers,) if isinstance(self.layers, int) else tuple(self.layers)
            object.__setattr__(self, "layers", chosen)
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
        if self.level == "sample":
            return replace(self, shift=None, model=model.fingerprint, anchors=())
        prompts = prompts_of(anchors)
        bare = model.prepare([prompt.with_image(None) for prompt in prompts])
        shown = bare.with_images(self._images(prompts))
        if self.direction == "mean":
            shift = mean_diff(model.stream(shown, HOOKS), model.stream(bare, HOOKS))
        else:
            shift = principal_direction(model.capture(shown, HOOKS), model.capture(bare, HOOKS))
        return replace(self, shift=shift, model=model.fingerprint, anchors=marks(prompts))

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
            raise InputError("this CMRM is not fitted: call .fit(model, anchors) and use what it returns")
        shift = shift.increments() if self.application == "incremental" else shift
        subtract = Subtract(shift, self.alpha, "last" if self.steps == "all" else -1, self.layers)
        every_row_has_one = bool(inputs.rows_with_image.all())
        return [subtract if every_row_has_one else Gate(HasImage(), subtract)]

    def randomised(self, seed: int) -> Self:
        """The control: a random vector of the same norm at every layer in the place of the fitted one.

        Raises:
            InputError: the recipe is not fitted at the dataset level.
        """
        if self.shift is None:
            raise InputError("the random control needs a recipe fitted at the dataset level")
        return replace(self, shift=random_like(self.shift, seed))

    def _sample_shift(self, model: Model, inputs: Inputs) -> Directions:
        prompts = list(inputs.prompts)
        bare = inputs.without_images()
        shown = bare.with_images(self._images(prompts))
        return difference(model.capture_last(shown, HOOKS), model.capture_last(bare, HOOKS))

    def _images(self, prompts: Sequence[Prompt]) -> list[Images]:
        # As many as the prompt has images; a prompt without one is shown a single one.
        made = [[self._one(row, image) for image in prompt.images or (None,)] for row, prompt in enumerate(prompts)]
        return [mine[0] if len(mine) == 1 else mine for mine in made]

    def _one(self, row: int, image: ImageSource | None) -> ImageSource:
        if not isinstance(self.image, str) or self.image not in MAKERS:
            return self.image
        if image is None and self.image in ("blur", "shuffle"):
            raise ImageError(f"image={self.image!r} is made from the prompt's own image, and prompt {row} has none")
        like = Image.new("RGB", NATIVE) if image is None else load_image(image, f"prompt {row}")
        return meaningless(self.image, like, self.seed + row)
