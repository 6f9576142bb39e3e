"""SafeDecoding: the first tokens of an answer lean towards an expert that was trained to refuse.

Xu et al., "SafeDecoding: Defending against Jailbreak Attacks via Safety-Aware Decoding", ACL 2024 (arXiv 2402.08983).

For the first `m` tokens of an answer, with ``p`` the model's probabilities and ``q`` the expert's, after the same
prompt and the same tokens so far::

    V = top_k(p) & top_k(q)  for the smallest k at which V has at least c tokens
    P(x) = p(x) + alpha * (q(x) - p(x))  for x in V, 0 elsewhere; below 0 it is 0; then made to sum to 1

and ordinary decoding of the model from then on. The paper has alpha 3, m 2, c 5, and an expert that is the model
itself, fine-tuned (LoRA) on refusals of harmful requests.

What was chosen: an expert sees the same image as the model. Where every P(x) of V is 0, which alpha < 1 cannot
make, V keeps the expert's probabilities (ours). The authors' code has a floor of 1e-8 in place of 0, the same for
greedy decoding. At alpha 0 the expert has no say, and neither has its sample space: the model answers as it does alone
(ours; in the formula V would still be the expert's too).
"""

import math
import os
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from transformers import LogitsProcessor

from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.encoding import Batch
from cmrm_interp.encoding.continued import continued
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.inputs import Inputs
from cmrm_interp.model import Model
from cmrm_interp.recipes.base import AnchorPrompts, found
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.controls import NothingToFit
from cmrm_interp.recipes.experts import expert_of
from cmrm_interp.recipes.mixing import generate_steered


@registered(
    Card(
        name="safedecoding",
        title="SafeDecoding",
        paper="Xu et al., ACL 2024",
        arxiv="2402.08983",
        claim="the first tokens lean towards an expert that was trained to refuse",
        wants="none",
        needs_images=False,
        strength="alpha",
        sure="equations and defaults of the paper; made for text, the image is given to both models (ours)",
    )
)
@dataclass(frozen=True, eq=False)
class SafeDecoding(NothingToFit):
    """The first tokens of an answer from what model and expert both find likely, weighted to the expert.

    Attributes:
        expert: a `Model`, or the folder of a checkpoint or of a low-rank adapter, with the vocabulary of the model that
            it protects; None for the model's own folder ``finetuned/expert``.
        alpha: weight of the expert's difference; 0 leaves the model as it is.
        first_tokens: how many tokens are chosen so (the paper's m).
        common: how many tokens the sample space has at least (the paper's c).
        weights: the expert's fingerprint.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "first_tokens", "common"})

    expert: Model | str | os.PathLike[str] | None = None
    alpha: float = 3.0
    first_tokens: int = 2
    common: int = 5
    weights: str | None = found()

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: a setting that means nothing.
        """
        super().__post_init__()
        if not 0 <= self.alpha < math.inf or self.first_tokens < 0 or self.common < 1:
            raise InputError(
                f"SafeDecoding(alpha={self.alpha}, first_tokens={self.first_tokens}, common={self.common}): alpha and"
                " first_tokens are 0 or more, and finite; common is 1 or more"
            )

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Strengths and numbers of tokens around the paper's."""
        return {"alpha": [1.0, 3.0], "first_tokens": [1, 2, 5]}

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Note the model, and see that the expert fits it; there is nothing to fit.

        Raises:
            InputError: no expert, the model itself as its expert, or a larger sample space than the vocabulary.
            MismatchError: an expert of another vocabulary or family.
        """
        if self.common > model.hf.config.get_text_config().vocab_size:
            raise InputError(f"common={self.common}: the vocabulary of {model.name} is smaller")
        return replace(super().fit(model, anchors), weights=expert_of(model, self.expert).fingerprint)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe, whose expert has to be a folder.

        Raises:
            InputError: the expert is a model in memory.
        """
        if isinstance(self.expert, Model):
            raise InputError(
                "SafeDecoding with an expert in memory cannot be saved: give the folder of its checkpoint, expert=PATH"
            )
        super().save(path)

    def generate(self, model: Model, inputs: Inputs, **generation: Any) -> list[str]:
        """Answers whose first tokens lean towards the expert.

        Raises:
            MismatchError: the expert's weights are others than when the recipe was fitted.
        """
        self.check_model(model)
        if self.alpha == 0 or self.first_tokens == 0:
            return model.generate(inputs, **generation)
        expert = expert_of(model, self.expert)
        if expert.fingerprint != self.weights:
            raise MismatchError(
                f"the weights of the expert {expert.name} are not those that it had at fit: fit it again"
            )
        how = {"max_new_tokens": 64, "batch_size": "auto", **generation}
        new = generate_steered(model, inputs, lambda batch: _Leaning(self, expert, batch), **how)
        return model.tokenizer.batch_decode(new, skip_special_tokens=True)


class _Leaning(LogitsProcessor):
    """SafeDecoding's scores for the first tokens of one batch."""

    def __init__(self, recipe: SafeDecoding, expert: Model, batch: Batch) -> None:
        self.recipe, self.expert, self.tensors = recipe, expert, batch.tensors

    def __call__(self, input_ids: Int[Tensor, "batch pos"], scores: Float[Tensor, "batch vocab"]) -> Tensor:
        said = input_ids[:, self.tensors["input_ids"].shape[1] :].cpu()
        if said.shape[1] >= self.recipe.first_tokens:
            return scores
        # The expert's words from the beginning at each of a few steps, so that it needs no cache of its own.
        inputs = self.expert.from_encoding(continued(self.tensors, said, one_way=self.expert.network.family.one_way))
        theirs = self.expert.logits(inputs, batch_size=len(scores)).to(scores.device, scores.dtype)
        if self.expert.encoder.image_token is not None:
            # It would stand for an image that the expert is not given.
            scores = scores.index_fill(1, torch.tensor([self.expert.encoder.image_token]).to(scores.device), -torch.inf)
        return leaning(scores, theirs.masked_fill(scores.isneginf(), -torch.inf), self.recipe.alpha, self.recipe.common)


def leaning(
    logits: Float[Tensor, "batch vocab"], expert: Float[Tensor, "batch vocab"], alpha: float, common: int
) -> Float[Tensor, "batch vocab"]:
    """Log-probabilities of the next token that lean towards an expert (arXiv 2402.08983, equations 2 to 4).

    Args:
        logits: the model's.
        expert: the expert's.
        alpha: weight of the difference.
        common: tokens that the sample space has at least.

    Returns:
        Log-probabilities, which sum to 1 over the sample space and are -inf outside.
    """
    places = torch.stack([_places(one) for one in (logits, expert)]).amax(0)
    # A token is in both top k from k = the worse of its two places on.
    space = places <= places.kthvalue(common, dim=1, keepdim=True).values
    ours, theirs = logits.float().softmax(-1), expert.float().softmax(-1)
    weights = (ours + alpha * (theirs - ours)).clamp(min=0) * space
    none = weights.sum(-1, keepdim=True) == 0
    # As logarithms, for an expert that is sure of a token outside of V has probabilities of 0 inside.
    alone = expert.float().masked_fill(~space, -torch.inf).log_softmax(-1)
    return torch.where(none, alone, (weights / weights.sum(-1, keepdim=True)).log())


def _places(scores: Float[Tensor, "batch vocab"]) -> Int[Tensor, "batch vocab"]:
    """Place of each token in the order of its row, the likeliest first."""
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
