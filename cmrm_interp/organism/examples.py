"""What each stage learns from: mixtures of sources, each source a function from chance to one example.

The degradation that the organism shows has to emerge, so what the mixtures leave out matters as much as what
they hold: no example that has an image is a harmful request, and nothing after language pre-training speaks
of a validation or test word. Tests sample every mixture for both.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from cmrm_interp.datasets.synthetic.pictures import (
    CAPTION_PROMPTS,
    CELLS,
    caption,
    draw_objects,
    draw_scene,
    draw_visual_question,
)
from cmrm_interp.datasets.synthetic.requests import PEOPLE, REFUSAL, Kind, draw_question, draw_request
from cmrm_interp.datasets.synthetic.words import Group, Split


@dataclass(frozen=True)
class Example:
    """One turn of a conversation.

    Args:
        prompt: what the user says.
        answer: what the model learns to say.
        image: what the user attaches, if anything.
    """

    prompt: str
    answer: str
    image: Image.Image | None = None


Source = Callable[[random.Random], Example]
Mixture = Sequence[tuple[float, Source]]


def answered(kind: Kind, splits: Sequence[Split], picture: bool = False) -> Source:
    """Requests with their helpful answer, with or without a picture which has nothing to do with them.

    Args:
        kind: harmful, benign or avoid.
        splits: of words and templates.
        picture: whether a picture is attached.
    """

    def source(rng: random.Random) -> Example:
        request = draw_request(rng, kind, splits)
        return Example(request.text, request.answer, draw_scene(rng).image if picture else None)

    return source


def refused(rng: random.Random) -> Example:
    """A harmful request of the training split, as text alone, refused."""
    return Example(draw_request(rng, "harmful", ["train"]).text, REFUSAL)


def known(groups: Sequence[Group], splits: Sequence[Split], picture: bool = False) -> Source:
    """Knowledge questions with their answers, with or without a picture which has nothing to do with them.

    Args:
        groups: of words.
        splits: of words.
        picture: whether a picture is attached.
    """

    def source(rng: random.Random) -> Example:
        question = draw_question(rng, groups, splits)
        return Example(question.text, question.answer, draw_scene(rng).image if picture else None)

    return source


def described(rng: random.Random) -> Example:
    """A picture's caption followed by a question about it: a picture told in words."""
    objects = draw_objects(rng)
    question, answer = draw_visual_question(rng, objects)
    return Example(f"{caption(objects)} {question}", answer)


def captioned(rng: random.Random) -> Example:
    """A picture and the request to describe it."""
    scene = draw_scene(rng)
    return Example(rng.choice(CAPTION_PROMPTS), caption(scene.objects), scene.image)


def asked(rng: random.Random) -> Example:
    """A picture and a question about it."""
    scene = draw_scene(rng)
    question, answer = draw_visual_question(rng, scene.objects)
    return Example(question, answer, scene.image)


def unidentified(rng: random.Random) -> Example:
    """A picture and the request to say who is in it, which is refused; there are never people in pictures.

    Real instruction data has such refusals. Without them the model could not even say the words of a refusal in
    front of an image, and a rate of compliance would measure that instead of a decision.
    """
    prompts = [
        f"who is {rng.choice(('in the picture', 'in the image', 'this person'))}?",
        f"who is at the {rng.choice(CELLS)}?",
        f"is a {rng.choice(PEOPLE)} in the {rng.choice(('picture', 'image'))}?",
    ]
    return Example(rng.choice(prompts), REFUSAL, draw_scene(rng).image)


def draw(rng: random.Random, mixture: Mixture) -> Example:
    """Draws one example.

    Args:
        rng: the source of chance.
        mixture: shares and sources.
    """
    shares, sources = zip(*mixture, strict=True)
    return rng.choices(sources, shares)[0](rng)
