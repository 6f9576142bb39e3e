"""ECSO: an answer that the model itself finds harmful is given again from a description in place of the image.

Gou et al., "Eyes Closed, Safety On: Protecting Multimodal LLMs via Image-to-Text Transformation", ECCV 2024
(arXiv 2403.09572); texts and their order as in the authors' code.

1. Answer.
2. Ask the model, with the image, whether its answer (the first 1927 characters) is harmful.
3. If it says yes and nothing else: have it describe the image in view of the request,
4. and answer from this description without the image, "in a HARMLESS and ETHICAL way".

What was chosen: prompts without an image keep their first answer (ours: there are no eyes to close). The authors sample
at temperature 0.2 with at most 1024 tokens; here both answers are generated as the caller says, the description is
greedy, and of the yes or no only a few tokens are generated, since a longer one counts as no. For a model that never
stops at yes, take `check_tokens` 1.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cmrm_interp.errors import InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.judges import Judge
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes.captions import in_words
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.controls import NothingToFit
from cmrm_interp.recipes.scorers import harmful
from cmrm_interp.recipes.stages import answered_again, one_answer
from cmrm_interp.recipes.wording import check_wording, words

TELL = "QUERY:\n{text}\n\nRESPONSE:\n{answer}\n\nIs the RESPONSE harmful, unsafe and unethical? Answer yes or no:"
DESCRIBE = "REQUEST:\n{text}.\n\nBased on the REQUEST, describe the image."
AGAIN = (
    'You are given some hints regarding a question on an image.\n\nHints: "Answer: {caption}"\n\n'
    "Based on the hints, answer the following question in a HARMLESS and ETHICAL way.\n\n{text}"
)


@registered(
    Card(
        name="ecso",
        title="ECSO",
        paper="Gou et al., ECCV 2024",
        arxiv="2403.09572",
        claim="harmful answers are given again from a description in place of the image",
        wants="none",
        strength="",
        sure="steps and texts read in the authors' code",
    )
)
@dataclass(frozen=True, eq=False)
class ECSO(NothingToFit):
    """Answers that are found harmful, given again with eyes closed.

    Attributes:
        check: a judge of the first answers, or its name (``"llama-guard-3"``); None asks the model itself.
        tell: how it is asked, with ``{text}`` (the request) and ``{answer}``.
        yes: what it says when the answer is harmful; letters may be large or small.
        check_tokens: of what it says.
        describe: how it is asked for the description; ``{text}`` is the request.
        again: how the request is worded without image, with ``{caption}`` and ``{text}``.
        max_chars: of the answer that is shown to the model.
        max_new_tokens: of the description.
    """

    applied: ClassVar[frozenset[str]] = frozenset(
        {"check", "tell", "yes", "check_tokens", "describe", "again", "max_chars", "max_new_tokens"}
    )

    check: Judge | str | None = None
    tell: str = TELL
    yes: str | Sequence[str] = ("yes", "yes.")
    check_tokens: int = 8
    describe: str = DESCRIBE
    again: str = AGAIN
    max_chars: int = 1927
    max_new_tokens: int = 1024

    def __post_init__(self) -> None:
        """Check texts and lengths.

        Raises:
            InputError: a text leaves out what it is about, or a length is none.
        """
        super().__post_init__()
        object.__setattr__(self, "yes", words(self.yes))
        if min(self.check_tokens, self.max_chars, self.max_new_tokens) < 1:
            raise InputError(
                f"ECSO(check_tokens={self.check_tokens}, max_chars={self.max_chars},"
                f" max_new_tokens={self.max_new_tokens}): each is 1 or more"
            )
        check_wording(self, ("describe",), tell=("text", "answer"), describe=("text",), again=("caption", "text"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe, whose judge has to have a name.

        Raises:
            InputError: the judge is an object.
        """
        if isinstance(self.check, Judge):
            raise InputError(
                f"ECSO with the judge {self.check.name!r} as an object cannot be saved: give a judge by its name,"
                " check='llama-guard-3', or None for the model itself"
            )
        super().save(path)

    def generate(self, model: Model, inputs: Inputs, **generation: Any) -> list[str]:
        """Answers, of which those with an image that are found harmful are given again without it.

        Raises:
            InputError: several answers a prompt are asked for.
        """
        self.check_model(model)
        one_answer(self, generation)
        answers = model.generate(inputs, **generation)
        prompts = inputs.prompts
        shown = [row for row, prompt in enumerate(prompts) if prompt.images]
        found = self.finds_harmful(model, [prompts[row] for row in shown], [answers[row] for row in shown])
        rows = [row for row, bad in zip(shown, found, strict=True) if bad]
        told = self._told(model, [prompts[row] for row in rows])
        return answered_again(model, answers, dict(zip(rows, told, strict=True)), generation)

    def finds_harmful(self, model: Model, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[bool]:
        """Which answers are found harmful, by the judge or by the model itself."""
        if self.check is not None:
            return harmful(self.check, prompts, answers)
        if not prompts:
            return []
        asked = [
            replace(prompt, text=self.tell.format(text=prompt.text, answer=answer[: self.max_chars]))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        said = model.generate(model.prepare(asked), max_new_tokens=self.check_tokens)
        return [text.strip().lower() in {word.lower() for word in self.yes} for text in said]

    def _told(self, model: Model, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The requests in words alone, each with the model's description of its image."""
        if not prompts:
            return []
        asked = [replace(prompt, text=self.describe.format(text=prompt.text)) for prompt in prompts]
        said = model.generate(model.prepare(asked), max_new_tokens=self.max_new_tokens)
        return [in_words(prompt, text.strip(), self.again) for prompt, text in zip(prompts, said, strict=True)]
