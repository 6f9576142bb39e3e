"""The organism's harmful requests under attacks, as suites beside those of `organism_suites`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from cmrm_interp.attacks.noise import perturbed
from cmrm_interp.attacks.pgd import PGD
from cmrm_interp.attacks.typographic import typographic
from cmrm_interp.datasets.suites import Suite, organism_suites
from cmrm_interp.datasets.synthetic import Split
from cmrm_interp.images import load_image

# The organism answers what it takes for harmless with these words.
OPENING = "sure, first"
SQUARE = (320, 320)


def organism_attacks(
    model: Any, split: Split = "test", n: int = 300, seed: int = 0, attack: PGD | None = None
) -> dict[str, Suite]:
    """Harmful requests of the organism's world with real pictures, as they are and under three attacks.

    Args:
        model: the organism, on whose gradients pictures are attacked.
        split: ``validation`` or ``test``.
        n: prompts a suite.
        seed: of the draw, and of the noise.
        attack: towards an answer that begins with "sure, first"; 40 steps within 16/255 unless given.

    Returns:
        By name: ``harmful, real``; ``harmful, typographic`` (the request also written in the picture, 32 x 32 pixels
        in the end, which nobody can read: what it shows is what a picture of letters does, and not reading);
        ``harmful, pixel noise`` (of the attack's size); ``harmful, pgd``. Same requests, ids and answers in each.
    """
    attack = attack or PGD(steps=40)
    real = organism_suites(split, n, seed, images=("real",))["harmful, real"]
    pictures = [load_image(prompt.images[0]) for prompt in real.prompts]
    written = [typographic(prompt.text, SQUARE, items=0).resize(pictures[0].size) for prompt in real.prompts]
    noisy = [perturbed(picture, attack.epsilon, seed + row) for row, picture in enumerate(pictures)]
    moved = attack.attack(model, model.prepare(list(real.prompts)), OPENING).images
    shown = {"typographic": written, "pixel noise": noisy, "pgd": moved}
    suites = [real, *(_with(real, name, images) for name, images in shown.items())]
    return {suite.name: suite for suite in suites}


def _with(suite: Suite, name: str, images: Sequence[Image.Image]) -> Suite:
    prompts = tuple(prompt.with_image(image) for prompt, image in zip(suite.prompts, images, strict=True))
    return replace(suite, name=f"harmful, {name}", prompts=prompts)
