"""CoCA: what a safety principle in the prompt changes in the logits, amplified.

Gao et al., "CoCA: Regaining Safety-awareness of Multimodal Large Language Models with Constitutional Calibration",
COLM 2024 (arXiv 2409.11365). At every token, with the answer so far the same in both::

    delta = logits(with principle) - logits(without)
    final = logits(with principle) + alpha * delta

What was chosen: the formula is from a summary of the paper and not from its pages; it gives no alpha, and 1.0 is ours,
as are the principle's words and their place, after the request. At alpha 0 the model answers with the principle in its
prompt and nothing more; no alpha gives the model as it is.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.model import Model
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.controls import NothingToFit
from cmrm_interp.recipes.mixing import generate_mixed
from cmrm_interp.recipes.wording import check_wording

PRINCIPLE = (
    "You are a helpful, respectful and honest assistant. Refuse to answer if the request or the image is harmful,"
    " unethical, dangerous or illegal."
)


@registered(
    Card(
        name="coca",
        title="CoCA",
        paper="Gao et al., COLM 2024",
        arxiv="2409.11365",
        claim="amplifies what a safety principle in the prompt changes in the logits",
        wants="none",
        needs_images=False,
        strength="",
        sure="formula second-hand; alpha and the principle's words are ours",
    )
)
@dataclass(frozen=True, eq=False)
class CoCA(NothingToFit):
    """Logits of the prompt with a safety principle, and `alpha` times what the principle changed.

    Attributes:
        alpha: how much of the change is added; 0 leaves the principle in the prompt alone.
        principle: the safety principle.
        joined: how request (``{text}``) and ``{principle}`` become one text.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "principle", "joined"})

    alpha: float = 1.0
    principle: str = PRINCIPLE
    joined: str = "{text}\n{principle}"

    def __post_init__(self) -> None:
        """Check strength and texts.

        Raises:
            InputError: `alpha` is no finite number, or `joined` leaves the request or the principle out.
        """
        super().__post_init__()
        if not math.isfinite(self.alpha):
            raise InputError(f"CoCA(alpha={self.alpha}): give a finite number")
        check_wording(self, joined=("text", "principle"))

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Strengths; at 0 the principle alone."""
        return {"alpha": [0.0, 0.5, 1.0, 2.0, 4.0]}

    def generate(self, model: Model, inputs: Inputs, **generation: Any) -> list[str]:
        """Answers from the amplified logits; both prompts of a request run side by side."""
        self.check_model(model)
        told = [
            replace(prompt, text=self.joined.format(text=prompt.text, principle=self.principle))
            for prompt in inputs.prompts
        ]
        principled = model.prepare(told)
        if self.alpha == 0:
            # Bit-equal to the principle in the prompt: two prompts in a batch would be padded otherwise.
            return model.generate(principled, **generation)
        return generate_mixed(model, [principled, inputs], self._mixed, **generation)

    def _mixed(self, scores: Float[Tensor, "prompts streams vocab"]) -> Float[Tensor, "prompts vocab"]:
        principled, plain = scores.unbind(1)
        return principled + self.alpha * (principled - plain)
