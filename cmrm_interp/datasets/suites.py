"""Suites: prompts of one kind under one condition, and those of the model organism's world."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from cmrm_interp.datasets import synthetic
from cmrm_interp.errors import InputError
from cmrm_interp.images import meaningless
from cmrm_interp.prompts import Prompt

SuiteKind = Literal["harmful", "benign", "questions"]


@dataclass(frozen=True)
class Suite:
    """Prompts that are asked and counted together.

    Attributes:
        name: for tables.
        kind: what the answers are counted for: ``harmful`` (unsafe when complied), ``benign`` (over-refused when
            refused), ``questions`` (right or wrong).
        prompts: what is asked.
        answers: the right answers, one a prompt, where there are any.
    """

    name: str
    kind: SuiteKind
    prompts: tuple[Prompt, ...]
    answers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a suite without prompts, or with another number of answers."""
        if not self.prompts:
            raise InputError(f"the suite {self.name!r} has no prompts")
        if self.answers is not None and len(self.answers) != len(self.prompts):
            raise InputError(f"the suite {self.name!r} has {len(self.prompts)} prompts and {len(self.answers)} answers")
        if self.kind == "questions" and self.answers is None:
            raise InputError(f"the suite {self.name!r} asks questions, so it needs their answers")


def organism_suites(
    split: synthetic.Split = "test", n: int = 300, seed: int = 0, images: Sequence[str] = ("real", "blank", "noise")
) -> dict[str, Suite]:
    """The suites that show the paper's phenomenon on the model organism.

    Args:
        split: ``validation`` or ``test``; neither shares words or templates with training after pre-training.
        n: prompts a suite.
        seed: of the draw.
        images: conditions beside text: ``real`` pictures, or kinds of meaningless images.

    Returns:
        By name: harmful requests as text and with each image, benign ones as text and with a real picture, and
        questions about pictures.
    """
    pictures = [scene.image for scene in synthetic.scenes(n, seed + 1)]
    suites = []
    asked_for: tuple[tuple[Literal["harmful", "benign"], tuple[str, ...]], ...] = (
        ("harmful", ("text", *images)),
        ("benign", ("text", "real")),
    )
    for kind, conditions in asked_for:
        drawn = synthetic.requests(kind, split, n, seed)
        for condition in conditions:
            prompts = tuple(
                Prompt(request.text, _image(condition, picture, row))
                for row, (request, picture) in enumerate(zip(drawn, pictures, strict=True))
            )
            suites.append(Suite(f"{kind}, {condition}", kind, prompts, tuple(r.answer for r in drawn)))
    asked = synthetic.visual_questions(n, seed, split)
    questions = tuple(Prompt(question.text, question.image) for question in asked)
    suites.append(Suite("questions, real", "questions", questions, tuple(q.answer for q in asked)))
    return {suite.name: suite for suite in suites}


def organism_anchors(n: int = 240, seed: int = 0) -> list[Prompt]:
    """Anchors of the organism's world: training requests, half harmful and half benign, as text."""
    harmful = synthetic.requests("harmful", "train", n // 2, seed)
    benign = synthetic.requests("benign", "train", n - n // 2, seed)
    return [Prompt(request.text) for request in (*harmful, *benign)]


def _image(condition: str, picture: Image.Image, row: int) -> Image.Image | None:
    if condition in ("text", "real"):
        return picture if condition == "real" else None
    return meaningless(condition, picture, row)
