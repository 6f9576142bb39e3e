"""Suites: prompts of one kind under one condition, and those of the model organism's world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from PIL import Image

from cmrm_interp.datasets import synthetic
from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.errors import InputError
from cmrm_interp.images import meaningless
from cmrm_interp.prompts import Prompt

PICTURES = 5000
SuiteKind = Literal["harmful", "benign", "questions", "graded"]


@dataclass(frozen=True)
class Suite:
    """Prompts that are asked and counted together.

    Attributes:
        name: for tables.
        kind: what the answers are counted for: ``harmful`` (unsafe when complied), ``benign`` (over-refused when
            refused), ``questions`` (right or wrong), ``graded`` (a score beside a reference).
        prompts: what is asked.
        answers: the right answers, or reference ones, one a prompt, where there are any.
        ids: one a prompt, the same in every run; numbers from 1 on where the data has none.
        about: what else the data says of each prompt (category, source, row).
        marking: how an answer is compared with the right one: a name in `cmrm_interp.datasets.marking`.
        split: which part of the data this is (anchor, validation, test); None for all of it.
        source: where it comes from: file, its hash, licence, what was left out.
    """

    name: str
    kind: SuiteKind
    prompts: tuple[Prompt, ...]
    answers: tuple[str, ...] | None = None
    ids: tuple[str, ...] = ()
    about: tuple[Mapping[str, Any], ...] = ()
    marking: str = "form"
    split: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a suite without prompts, or with another number of answers, ids or notes, or ids twice.

        Raises:
            InputError: what is said above.
        """
        if not self.prompts:
            raise InputError(f"the suite {self.name!r} has no prompts")
        if not self.ids:
            object.__setattr__(self, "ids", tuple(str(number) for number in range(1, len(self.prompts) + 1)))
        if not self.about:
            object.__setattr__(self, "about", ({},) * len(self.prompts))
        for what, items in (("answers", self.answers), ("ids", self.ids), ("about", self.about)):
            if items is not None and len(items) != len(self.prompts):
                raise InputError(f"the suite {self.name!r} has {len(self.prompts)} prompts and {len(items)} {what}")
        if len(set(self.ids)) < len(self.ids):
            twice = next(one for row, one in enumerate(self.ids) if one in self.ids[:row])
            raise InputError(f"the suite {self.name!r} has the id {twice!r} twice: ids tell prompts apart")
        if self.kind == "questions" and self.answers is None:
            raise InputError(f"the suite {self.name!r} asks questions, so it needs their answers")

    def rows(self, chosen: Sequence[int]) -> "Suite":
        """The same suite with some of its prompts, in the order given."""
        answers = None if self.answers is None else tuple(self.answers[row] for row in chosen)
        several = {name: tuple(getattr(self, name)[row] for row in chosen) for name in ("prompts", "ids", "about")}
        return replace(self, answers=answers, **several)


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
            name, answers = f"{kind}, {condition}", tuple(r.answer for r in drawn)
            suites.append(Suite(name, kind, prompts, answers, split=split))
    asked = synthetic.visual_questions(n, seed, split)
    questions = tuple(Prompt(question.text, question.image) for question in asked)
    answers = tuple(q.answer for q in asked)
    suites.append(Suite("questions, real", "questions", questions, answers, split=split))
    return {suite.name: suite for suite in suites}


def organism_anchors(n: int = 240, seed: int = 0, images: bool = False) -> Anchors:
    """Anchors of the organism's world: training requests, half harmful and half harmless.

    Args:
        n: of both classes together.
        seed: of the draw.
        images: whether each has a picture of the world, or none has.
    """
    kinds: tuple[tuple[Literal["harmful", "benign"], int], ...] = (("harmful", n // 2), ("benign", n - n // 2))
    harmful, harmless = ([r.text for r in synthetic.requests(kind, "train", size, seed)] for kind, size in kinds)
    anchors = Anchors(harmful, harmless)
    # Pictures of their own: no suite draws its scenes from this seed.
    return anchors.with_images([s.image for s in synthetic.scenes(n, seed + PICTURES)]) if images else anchors


def _image(condition: str, picture: Image.Image, row: int) -> Image.Image | None:
    if condition in ("text", "real"):
        return picture if condition == "real" else None
    return meaningless(condition, picture, row)
