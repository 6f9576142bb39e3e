"""The five input variants whose states the paper compares, made from one set of prompts with images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cmrm_interp.errors import ImageError, InputError
from cmrm_interp.images import load_image, meaningless
from cmrm_interp.inputs import Inputs
from cmrm_interp.model import Model
from cmrm_interp.prompts import Images, ImageSource, Prompt

REFERENCE = "text"


def variants(
    model: Model,
    prompts: Inputs | Sequence[str | Prompt],
    images: ImageSource | Sequence[Images] | None = None,
    captions: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Inputs]:
    """The same prompts in five ways: with their image, a blank one, noise, a caption in its place, as text alone.

    The conditions of CMRM's figure (arXiv 2410.09047). Blank and noise images have the size of the
    image that they stand in for; the caption is a line before the prompt.

    Args:
        model: a vision-language model.
        prompts: texts, `Prompt` objects or Inputs, each with an image here or in `images`.
        images: one for all or one for each.
        captions: one for each prompt; None asks the model to describe the images (`describe`).
        seed: of the noise, which differs from prompt to prompt.

    Returns:
        Inputs by name: ``image``, ``blank``, ``noise``, ``caption``, ``text``.

    Raises:
        ImageError: a prompt without an image.
        InputError: not one caption for each prompt.
    """
    shown = _shown(model, prompts, images)
    captions = describe(model, shown) if captions is None else captions
    return {
        "image": shown,
        "blank": shown.with_images(_stand_ins(shown.prompts, "blank", seed)),
        "noise": shown.with_images(_stand_ins(shown.prompts, "noise", seed)),
        "caption": told(model, shown, captions),
        REFERENCE: shown.without_images(),
    }


def describe(model: Model, inputs: Inputs, ask: str = "Describe the image.", max_new_tokens: int = 64) -> list[str]:
    """Captions of the images of some inputs, in the model's own words.

    Args:
        model: a vision-language model.
        inputs: prompts with images; what they ask is left out.
        ask: what the model is asked instead.
        max_new_tokens: at most so many a caption.
    """
    asked = [Prompt(ask, prompt.image, prompt.system) for prompt in inputs.prompts]
    return [caption.strip() for caption in model.generate(model.prepare(asked), max_new_tokens=max_new_tokens)]


def told(model: Model, inputs: Inputs, captions: Sequence[str]) -> Inputs:
    """The same prompts with a caption, a line before the text, in the place of their images.

    Args:
        model: what the inputs are for.
        inputs: prompts.
        captions: one for each.

    Raises:
        InputError: not one caption for each prompt, or one that is no text.
    """
    if isinstance(captions, str) or len(captions) != len(inputs):
        n = "one text" if isinstance(captions, str) else f"{len(captions)}"
        raise InputError(f"{n} as captions of {len(inputs)} prompts: give a list with one for each")
    for row, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise InputError(f"caption {row} is a {type(caption).__name__}: give a text")
    pairs = zip(inputs.prompts, captions, strict=True)
    prompts = [replace(prompt, text=f"{caption}\n{prompt.text}", image=None) for prompt, caption in pairs]
    return model.prepare(prompts, padding_side=inputs.padding_side)


def conditions_of(
    model: Model | None, given: Mapping[str, object] | Inputs | Sequence[str | Prompt]
) -> Mapping[str, object]:
    """Conditions as they were given, or the five variants of prompts.

    Raises:
        InputError: prompts, and no model to run them.
    """
    if isinstance(given, Mapping):
        return given
    if model is None:
        raise InputError("gap(None, ...) reads stored activations: give them by condition, {'text': acts, ...}")
    return variants(model, given)


def _shown(
    model: Model, prompts: Inputs | Sequence[str | Prompt], images: ImageSource | Sequence[Images] | None
) -> Inputs:
    if isinstance(prompts, Inputs):
        shown = prompts if images is None else prompts.with_images(images)
    else:
        shown = model.prepare(prompts, images)
    for row, prompt in enumerate(shown.prompts):
        if not prompt.images:
            raise ImageError(f"prompt {row} ({prompt.text[:40]!r}) has no image to leave out: give images=")
    return shown


def _stand_ins(prompts: Sequence[Prompt], kind: str, seed: int) -> list[Images]:
    made = [
        [meaningless(kind, load_image(image, f"prompt {row}"), seed + row) for image in prompt.images]
        for row, prompt in enumerate(prompts)
    ]
    return [mine[0] if len(mine) == 1 else mine for mine in made]
