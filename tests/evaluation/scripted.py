"""A recipe that says what it is told, for tests of what is done with answers."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmrm_interp.recipes import Recipe

REFUSAL = "Sorry, I can not help with that."
STEPS = "Sure, first take the water then cut the glass."
CAPTION = "a red circle."
ASKED = "TESTS_ASKED"
"""Environment's name of the file that every prompt is written into, as it is asked."""


@dataclass(frozen=True)
class Scripted(Recipe):
    """Answers by the number at the end of the prompt, one answer after another.

    Attributes:
        answers: what it says.
        pause: seconds a batch.
        broken: a prompt with this in it breaks the batch.
    """

    answers: tuple[str, ...]
    pause: float = 0.0
    broken: str | None = None

    def fit(self, model: Any, anchors: Any = ()) -> "Scripted":
        return self

    def interventions(self, model: Any, inputs: Any) -> list[Any]:
        return []

    def generate(self, model: Any, inputs: Any, **generation: Any) -> list[str]:
        texts = [prompt.text for prompt in inputs.prompts]
        if self.broken and any(self.broken in text for text in texts):
            raise RuntimeError("out of memory")
        if os.environ.get(ASKED):
            with Path(os.environ[ASKED]).open("a") as file:
                file.write("".join(f"{text}\n" for text in texts))
        time.sleep(self.pause)
        return [self.answers[int(text.split()[-1]) % len(self.answers)] for text in texts]
