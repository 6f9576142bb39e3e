"""Pictures of the synthetic world: up to three colored shapes in the four cells of a small square.

A picture, its caption and the questions about it come from one list of objects, so every answer is right by
construction. Grounds run from black to white, from plain to very noisy, and some pictures show nothing: a model
that learns from them has seen the likes of a blank or noise image, as real ones have. Pictures are drawn anew from
a seed; a split is a stream of chance of its own.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cmrm_interp.datasets.synthetic.words import COLORS, SPLITS, Split
from cmrm_interp.errors import InputError

SIZE = 32
NOISE = (0.0, 0.02, 0.05, 0.25)  # standard deviations, where black is 0 and white is 1
SHAPES = ("circle", "square", "triangle", "cross")
CELLS = ("top left", "top right", "bottom left", "bottom right")
NUMBERS = ("zero", "one", "two", "three")
CAPTION_PROMPTS = ("describe the image.", "what is in the picture?", "caption this image.")

_RGB = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.8, 0.2),
    "blue": (0.1, 0.2, 0.9),
    "yellow": (0.9, 0.9, 0.1),
    "cyan": (0.1, 0.85, 0.9),
    "purple": (0.6, 0.1, 0.7),
}


@dataclass(frozen=True)
class Shape:
    """One thing in a picture.

    Args:
        cell: index into CELLS.
        shape: one of SHAPES.
        color: one of COLORS.
    """

    cell: int
    shape: str
    color: str


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Args:
        image: RGB, SIZE x SIZE pixels.
        objects: what was drawn, by cell.
    """

    image: Image.Image
    objects: tuple[Shape, ...]


@dataclass(frozen=True)
class VisualQuestion:
    """A question which only the picture answers."""

    text: str
    answer: str
    image: Image.Image


def draw_objects(rng: random.Random) -> tuple[Shape, ...]:
    """Chooses what is in a picture: nothing (8 %), or one to three different shapes in different cells.

    Args:
        rng: the source of chance.
    """
    count = 0 if rng.random() < 0.08 else rng.randint(1, 3)
    cells, shapes = sorted(rng.sample(range(4), count)), rng.sample(SHAPES, count)
    return tuple(Shape(cell, shape, rng.choice(COLORS)) for cell, shape in zip(cells, shapes, strict=True))


def _inside(shape: str, dy: np.ndarray, dx: np.ndarray, radius: float) -> np.ndarray:
    """Which pixels a shape covers, from their distances to its middle."""
    if shape == "circle":
        return dy**2 + dx**2 < radius**2
    if shape == "square":
        return (abs(dy) < radius * 0.9) & (abs(dx) < radius * 0.9)
    if shape == "triangle":
        return (abs(dy) < radius) & (abs(dx) < (dy + radius) / 2)
    bar = radius * 0.33
    return ((abs(dy) < bar) & (abs(dx) < radius)) | ((abs(dx) < bar) & (abs(dy) < radius))


def paint(rng: random.Random, objects: Sequence[Shape]) -> Image.Image:
    """Paints objects, a little off the middle of their cells, on a ground between black and white.

    Args:
        rng: the source of chance.
        objects: what to paint.
    """
    canvas = np.full((SIZE, SIZE, 3), rng.uniform(0, 1))
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    for thing in objects:
        dy = rows - (thing.cell // 2) * 16 - 7.5 - rng.uniform(-2, 2)
        dx = columns - (thing.cell % 2) * 16 - 7.5 - rng.uniform(-2, 2)
        canvas[_inside(thing.shape, dy, dx, rng.uniform(4.2, 5.8))] = _RGB[thing.color]
    canvas += np.random.RandomState(rng.randrange(2**31)).normal(0, rng.choice(NOISE), canvas.shape)
    return Image.fromarray((canvas.clip(0, 1) * 255).round().astype(np.uint8))


def draw_scene(rng: random.Random) -> Scene:
    """Draws one picture.

    Args:
        rng: the source of chance.
    """
    objects = draw_objects(rng)
    return Scene(paint(rng, objects), objects)


def scenes(n: int, seed: int = 0) -> list[Scene]:
    """Pictures for everything that needs any picture.

    Args:
        n: how many.
        seed: of the draw; the same seed gives the same pixels on every machine.
    """
    rng = random.Random(f"scenes {seed}")
    return [draw_scene(rng) for _ in range(n)]


def caption(objects: Sequence[Shape]) -> str:
    """Says all that is in a picture.

    Args:
        objects: of the picture.
    """
    if not objects:
        return "nothing."
    return " and ".join(f"a {o.color} {o.shape} at the {CELLS[o.cell]}" for o in objects) + "."


def count_question(objects: Sequence[Shape]) -> tuple[str, str]:
    """Asks how many shapes there are, and answers.

    Args:
        objects: of the picture.
    """
    return "how many shapes are there?", f"there are {NUMBERS[len(objects)]}."


def shape_questions(thing: Shape) -> list[tuple[str, str]]:
    """Asks one shape's color, its place, and what is at that place; each with its answer.

    Args:
        thing: the shape, the only one of its kind and cell in its picture.
    """
    cell = CELLS[thing.cell]
    return [
        (f"what color is the {thing.shape}?", f"the {thing.shape} is {thing.color}."),
        (f"where is the {thing.shape}?", f"the {thing.shape} is at the {cell}."),
        (f"what is at the {cell}?", f"a {thing.color} {thing.shape}."),
    ]


def draw_visual_question(rng: random.Random, objects: Sequence[Shape]) -> tuple[str, str]:
    """Draws a question about a picture, with its answer.

    Args:
        rng: the source of chance.
        objects: of the picture.
    """
    if not objects or rng.random() < 0.25:
        return count_question(objects)
    return rng.choice(shape_questions(rng.choice(objects)))


def visual_questions(n: int, seed: int = 0, split: Split = "test") -> list[VisualQuestion]:
    """Questions about pictures, one a picture.

    Args:
        n: how many.
        seed: of the draw.
        split: names the stream of chance; training draws from none of these streams.

    Raises:
        InputError: if the split does not exist.
    """
    if split not in SPLITS:
        raise InputError(f"no split {split!r}; splits: {SPLITS}")
    rng = random.Random(f"visual questions {split} {seed}")
    drawn = [draw_scene(rng) for _ in range(n)]
    return [VisualQuestion(*draw_visual_question(rng, scene.objects), scene.image) for scene in drawn]
