"""Controls: what a defence is compared with."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from cmrm_interp.inputs import Inputs
from cmrm_interp.model import Model
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, need_vision
from cmrm_interp.recipes.captions import captions, in_words
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.wording import check_wording


class NothingToFit(Recipe):
    """A recipe that acts on what goes into the model and what comes out, and finds nothing on prompts."""

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Note the model; there is nothing to fit.

        Raises:
            ModelError: a model without a vision side, where the card says that images are needed.
        """
        if self.card is not None and self.card.needs_images:
            need_vision(model, self)
        return replace(self, model=model.fingerprint)  # type: ignore[type-var]


@registered(
    Card(
        name="text-only",
        title="text only",
        paper="",
        arxiv="",
        claim="the request without its images",
        wants="none",
        needs_images=False,
        strength="",
    )
)
@dataclass(frozen=True, eq=False)
class TextOnly(NothingToFit):
    """The request without its images: nothing to see, and nothing to be led astray by.

    The text-only condition of CMRM (arXiv 2410.09047, section 3).
    """

    def generate(self, model: Model, inputs: Inputs, **generation: Any) -> list[str]:
        """Answers to the prompts without their images."""
        self.check_model(model)
        return model.generate(inputs.without_images(), **generation)


@registered(
    Card(
        name="caption",
        title="caption instead of image",
        paper="",
        arxiv="",
        claim="the model's own description in the image's place",
        wants="none",
        needs_images=False,
        strength="",
    )
)
@dataclass(frozen=True, eq=False)
class CaptionInstead(NothingToFit):
    """The model's own description of the image in the image's place: as much to know, and nothing to see.

    The caption-instead-of-image condition of CMRM (arXiv 2410.09047, section 3), as ECSO (2403.09572) uses it.

    Attributes:
        question: how the model is asked to describe its image.
        joined: how description and request become one text.
        max_new_tokens: of the description.
    """

    question: str = "Describe the image."
    joined: str = "{caption} {text}"
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        """Check the text.

        Raises:
            InputError: `joined` leaves the description or the request out.
        """
        super().__post_init__()
        check_wording(self, joined=("caption", "text"))

    def generate(self, model: Model, inputs: Inputs, **generation: Any) -> list[str]:
        """Answers to each request with its image told in words; prompts without an image stay as they are."""
        self.check_model(model)
        said = captions(model, inputs.prompts, self.question, self.max_new_tokens)
        told = [in_words(prompt, caption, self.joined) for prompt, caption in zip(inputs.prompts, said, strict=True)]
        return model.generate(model.prepare(told), **generation)


@dataclass(frozen=True, eq=False)
class OtherModel(NothingToFit):
    """Another model's answers to the text alone: the language model before it met an image.

    Attributes:
        other: the model that answers.
    """

    savable: ClassVar[bool] = False

    other: Model

    def generate(self, model: Model, inputs: Inputs, **generation: Any) -> list[str]:
        """Answers of the other model to the prompts without their images."""
        self.check_model(model)
        return self.other.generate(self.other.prepare(inputs.without_images().prompts), **generation)
