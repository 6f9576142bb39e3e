"""Images told in words: the model's own description of what it is shown."""

from collections.abc import Sequence
from dataclasses import replace

from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt


def captions(
    model: Model, prompts: Sequence[Prompt], question: str = "Describe the image.", max_new_tokens: int = 64
) -> list[str]:
    """The model's own description of each prompt's images, greedy, all in one call.

    Args:
        model: that looks and describes.
        prompts: with images or without; what they ask is left out, system prompt and earlier turns stay.
        question: asked in the place of each prompt's text.
        max_new_tokens: of a description.

    Returns:
        A description a prompt, without white space around it; "" where a prompt has no image.
    """
    shown = [replace(prompt, text=question) for prompt in prompts if prompt.images]
    said = iter(model.generate(model.prepare(shown), max_new_tokens=max_new_tokens) if shown else ())
    return [next(said).strip() if prompt.images else "" for prompt in prompts]


def in_words(prompt: Prompt, caption: str, joined: str = "{caption} {text}") -> Prompt:
    """A prompt with a description in its images' place; a prompt without images stays as it is.

    Args:
        prompt: the prompt.
        caption: of its images.
        joined: how description and request become one text.
    """
    if not prompt.images:
        return prompt
    return replace(prompt, image=None, text=joined.format(caption=caption, text=prompt.text))
