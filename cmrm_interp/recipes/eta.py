"""ETA: evaluate image and answer; where both look unsafe, answer anew sentence by sentence, the best of several.

Ding et al., "ETA: Evaluating Then Aligning Safety of Vision Language Models at Inference Time", ICLR 2025
(arXiv 2410.06625); formulas and defaults as in the authors' code.

Evaluate: the answer stays unless ``image score > image_threshold`` and ``answer score < answer_threshold``.
Align: an answer begins with an interference prefix; then, for each sentence ``i``, draw `n` candidates (the likeliest 5
tokens, temperature 1.5, 70 tokens at most) and keep the one with the highest ::

    score = reward(prefix and answer so far) + (weight / i) * relevance(image, sentence)

where the second term is left out for the first sentence and where a candidate ends the answer.

What was chosen: the authors score the image by CLIP against a text of unsafe contents (threshold 0.16) and answers by
ArmoRM (0.06), and take CLIP for relevance. These are other models, which are not loaded here: give them as `sees`,
`rewards` and `relevance`, any function (prompt, answer) -> float (`ClipScore` over a CLIP of yours), or a judge, with
their thresholds. Without them (ours) the model itself is asked whether the image holds unsafe contents, and, as the
reward model is, by text alone whether the answer is harmful; both scores are log-odds of its yes and no in nats, with
thresholds 0, and relevance is left out. The prefix is from memory. Prompts without an image keep their first answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cmrm_interp.errors import InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.judges import Judge
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes.best_of import Round, Sampling, check_generation, sentence_by_sentence
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.controls import NothingToFit
from cmrm_interp.recipes.scorers import NO, YES, Scorer, says_yes, scores_of
from cmrm_interp.recipes.stages import generation_of
from cmrm_interp.recipes.wording import check_wording, words

LOOK = (
    "Does the image contain unsafe, pornographic, violent, political, physically harmful, illegal or private contents?"
    " Answer yes or no:"
)
TELL = "QUERY:\n{text}\n\nRESPONSE:\n{answer}\n\nIs the RESPONSE harmful, unsafe and unethical? Answer yes or no:"
_OBJECTS = ("sees", "rewards", "relevance")


@registered(
    Card(
        name="eta",
        title="ETA",
        paper="Ding et al., ICLR 2025",
        arxiv="2410.06625",
        claim="evaluates image and answer, then answers anew by the best of several sentences",
        wants="none",
        strength="",
        sure="steps read in the authors' code; without CLIP and ArmoRM the model scores itself (ours)",
    )
)
@dataclass(frozen=True, eq=False)
class ETA(NothingToFit):
    """Evaluating, then aligning.

    Attributes:
        sees: scores the image, higher is less safe (the answer it is given is ""); None asks the model `look`.
        rewards: scores answers, higher is safer; a judge gives 1 or -1; None asks the model `tell`.
        relevance: scores sentences by the image; None leaves it out.
        image_threshold: above it an image is unsafe.
        answer_threshold: below it an answer is unsafe.
        prefix: what aligned answers begin with.
        n: candidates of a sentence.
        weight: of the relevance, over the number of the sentence.
        top_k: likeliest tokens that candidates are drawn from.
        temperature: of the drawing.
        sentence: tokens of a sentence at most.
        seed: of the drawing, where `generate` is given none.
        look: asked of the image.
        tell: asked of ``{answer}`` to ``{text}``.
        yes: how the model says yes.
        no: how it says no.
    """

    sees: Scorer | None = None
    rewards: Scorer | Judge | str | None = None
    relevance: Scorer | None = None
    image_threshold: float = 0.0
    answer_threshold: float = 0.0
    prefix: str = "As an AI assistant, "
    n: int = 5
    weight: float = 1.0
    top_k: int = 5
    temperature: float = 1.5
    sentence: int = 70
    seed: int = 0
    look: str = LOOK
    tell: str = TELL
    yes: str | Sequence[str] = YES
    no: str | Sequence[str] = NO

    applied: ClassVar[frozenset[str]] = frozenset(
        {*_OBJECTS, "image_threshold", "answer_threshold", "prefix", "n", "weight", "top_k", "temperature"}
        | {"sentence", "seed", "look", "tell", "yes", "no"}
    )

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: no candidates, no numbers, or a text that leaves out what it is about.
        """
        super().__post_init__()
        for name in ("yes", "no"):
            object.__setattr__(self, name, words(getattr(self, name)))
        for name in ("image_threshold", "answer_threshold", "weight"):
            if math.isnan(getattr(self, name)):
                raise InputError(f"ETA({name}=nan): nothing is above or below it; give a number")
        check_wording(self, tell=("text", "answer"))
        if self.n < 1 or self.sentence < 1:
            raise InputError(f"ETA(n={self.n}, sentence={self.sentence}): candidates and their tokens are at least 1")

    def save(self, path: Any) -> None:
        """Write the recipe, which may hold no scorers but judges by their names.

        Raises:
            InputError: it holds one.
        """
        held = [
            name for name in _OBJECTS if getattr(self, name) is not None and not isinstance(getattr(self, name), str)
        ]
        if held:
            raise InputError(
                f"ETA with {', '.join(held)} as objects cannot be saved: make it again where it is needed, or give"
                " rewards= a judge's name"
            )
        super().save(path)

    def generate(self, model: Model, inputs: Inputs, **generation: Any) -> list[str]:
        """Answers; those that look unsafe, as their images do, are made anew.

        Raises:
            InputError: arguments of generation that drawing sentences leaves no room for.
        """
        self.check_model(model)
        check_generation(generation)
        answers = list(model.generate(inputs, **generation))
        for row in self.unsafe(model, inputs.prompts, answers):
            answers[row] = self._aligned(model, inputs.prompts[row], generation_of(generation, [row]))
        return answers

    def unsafe(self, model: Model, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[int]:
        """Rows whose image is unsafe before an answer, and whose answer is."""
        shown = [row for row, prompt in enumerate(prompts) if prompt.images]
        looks = self._image_scores(model, [prompts[row] for row in shown])
        rows = [row for row, score in zip(shown, looks, strict=True) if score > self.image_threshold]
        rewards = self._rewards(model, [prompts[row] for row in rows], [answers[row] for row in rows])
        return [row for row, reward in zip(rows, rewards, strict=True) if reward < self.answer_threshold]

    def _image_scores(self, model: Model, prompts: Sequence[Prompt]) -> list[float]:
        if self.sees is not None:
            return scores_of(self.sees, prompts, [""] * len(prompts))
        return says_yes(model, [replace(prompt, text=self.look) for prompt in prompts], self.yes, self.no)

    def _rewards(self, model: Model, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        if self.rewards is not None:
            return scores_of(self.rewards, prompts, answers)
        asked = [
            replace(prompt, image=None, text=self.tell.format(text=prompt.text, answer=answer))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return [-score for score in says_yes(model, asked, self.yes, self.no)]

    def _aligned(self, model: Model, prompt: Prompt, generation: dict[str, Any]) -> str:
        seed = generation["seed"][0] if generation.get("seed") is not None else self.seed
        sampling = Sampling(self.n, self.top_k, self.temperature, self.sentence, ".", seed)

        def _score(drawn: Round) -> list[float]:
            prompts = [prompt] * len(drawn.answers)
            rewards = self._rewards(model, prompts, drawn.answers)
            if self.relevance is None or drawn.number == 1 or drawn.over:
                return rewards
            near = scores_of(self.relevance, prompts, drawn.sentences)
            return [a + self.weight / drawn.number * b for a, b in zip(rewards, near, strict=True)]

        return sentence_by_sentence(model, prompt, self.prefix, _score, sampling, generation)
