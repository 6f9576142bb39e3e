"""Data of the model organism's world to fine-tune it on: VLGuard in small, of training words alone."""

import random
from typing import Literal

from cmrm_interp.datasets import synthetic
from cmrm_interp.datasets.suites import Suite
from cmrm_interp.prompts import Prompt

# Pictures of its own: neither suites nor anchors draw their scenes from these seeds.
_PICTURES = 9000
_ASKED: tuple[tuple[Literal["harmful", "benign"], bool], ...] = (
    ("harmful", True),
    ("benign", True),
    ("harmful", False),
    ("benign", False),
)


def organism_safety(n: int = 600, seed: int = 0) -> dict[str, Suite]:
    """Safety data of the organism's world, after VLGuard (Zong et al., ICML 2024, arXiv 2402.02207).

    Training words and templates alone, and pictures of the world alone: blank images, noise, and the words of the
    validation and test splits are in none of them.

    Args:
        n: prompts of each suite with pictures; of the two without, a quarter.
        seed: of the draw.

    Returns:
        By name: harmful requests with a picture and without, which are refused, and benign ones, which are answered.
    """
    suites = []
    for kind, shown in _ASKED:
        count = n if shown else max(1, n // 4)
        asked = synthetic.requests(kind, "train", count, seed if shown else seed + _PICTURES)
        pictures = [s.image for s in synthetic.scenes(count, seed + _PICTURES + (kind == "benign"))]
        prompts = tuple(Prompt(r.text, p if shown else None) for r, p in zip(asked, pictures, strict=True))
        answers = tuple(synthetic.REFUSAL if kind == "harmful" else request.answer for request in asked)
        name = f"training, {kind}, {'real' if shown else 'text'}"
        suites.append(Suite(name, kind, prompts, answers, split="train"))
    return {suite.name: suite for suite in suites}


def organism_helpful(n: int = 600, seed: int = 0) -> dict[str, Suite]:
    """Helpful data of the organism's world to go with `organism_safety`: questions about pictures, and captions.

    Args:
        n: questions; of captions a third, of questions about training words, without a picture, a third.
        seed: of the draw.
    """
    rng = random.Random(f"captions to fine-tune on {seed}")
    asked = synthetic.visual_questions(n, seed, "train")
    scenes = synthetic.scenes(max(1, n // 3), seed + _PICTURES + 2)
    known = synthetic.knowledge_questions("train", min(max(1, n // 3), 200), seed)
    told = [Prompt(rng.choice(synthetic.CAPTION_PROMPTS), scene.image) for scene in scenes]
    captions = tuple(synthetic.caption(scene.objects) for scene in scenes)
    suites = (
        _questions("training, questions", [Prompt(q.text, q.image) for q in asked], tuple(q.answer for q in asked)),
        _questions("training, captions", told, captions),
        _questions("training, words", [Prompt(q.text) for q in known], tuple(q.answer for q in known)),
    )
    return {suite.name: suite for suite in suites}


def _questions(name: str, prompts: list[Prompt], answers: tuple[str, ...]) -> Suite:
    return Suite(name, "questions", tuple(prompts), answers, split="train")
