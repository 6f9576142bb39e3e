"""What a recipe costs the model's language: perplexity of its answers under the clean model, and KL to it.

The clean model is the same one without the recipe, given the same prompt and image.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.encoding import Batch
from cmrm_interp.encoding.continued import continued
from cmrm_interp.errors import InputError
from cmrm_interp.interventions import Intervention
from cmrm_interp.metrics import Seen, kl_to_clean
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes import Recipe
from cmrm_interp.running import BatchSize, each_batch, edits, forward
from cmrm_interp.vetting import vet


def clean_numbers(
    model: Model,
    recipe: Recipe | None,
    prompts: Sequence[str | Prompt],
    answers: Sequence[str],
    batch_size: BatchSize = "auto",
) -> list[dict[str, float]]:
    """Perplexity of each answer under the clean model, and KL divergence from it at the answer's first token.

    The perplexity is ``exp`` of the mean negative log-likelihood of the answer's tokens (its text, tokenized anew;
    the token that ends it does not count), given prompt and image, in one pass (teacher forcing). The divergence is
    ``KL(clean || with the recipe)`` in nats of the distributions of the token that begins the answer: a cost on
    benign prompts, and the very effect on harmful ones.

    Args:
        model: the model.
        recipe: under which the answers were given, fitted; None for the model as it is (its divergence is 0).
        prompts: what was asked.
        answers: the new texts, one a prompt.
        batch_size: rows a batch.

    Returns:
        For each answer ``perplexity`` and ``kl``. What is not defined is left out: the perplexity of an empty answer,
        and the divergence of a recipe that is more than interventions (a caption in the image's place, another
        model).

    Raises:
        InputError: another number of answers than of prompts.
        MismatchError: a recipe that was fitted on another model.
    """
    if len(prompts) != len(answers):
        raise InputError(f"{len(answers)} answers to {len(prompts)} prompts: give one answer a prompt")
    if not prompts:
        return []
    inputs = model.prepare(prompts).left_padded()
    ids = [model.tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
    acting = None
    if recipe is None or acts_inside(recipe):
        acting = vet(model, inputs, [] if recipe is None else recipe.interventions(model, inputs))

    def _run(batch: Batch) -> list[dict[str, float]]:
        return _numbers(model, batch, [ids[row] for row in batch.rows.tolist()], acting)

    return [row for rows in each_batch(inputs, batch_size, _run, "perplexity") for row in rows]


def acts_inside(recipe: Recipe) -> bool:
    """Whether a recipe is its interventions and nothing more, so that it has a distribution beside the model's own."""
    return type(recipe).generate is Recipe.generate


def _numbers(
    model: Model, batch: Batch, ids: list[list[int]], acting: Sequence[Intervention] | None
) -> list[dict[str, float]]:
    n = max(map(len, ids))
    longer = _with_answers(batch, ids, n, model.network.family.one_way)
    logits = forward(model.network, longer, {}, logits_to_keep=n + 1).logits.cpu()
    found = [{} if not row else _perplexity(logits[k, : len(row)], row) for k, row in enumerate(ids)]
    if acting is None:
        return found
    kl = torch.zeros(len(ids))
    if acting:
        visits = edits(model.network, model.encoder, acting, batch)
        edited = forward(model.network, batch, visits, logits_to_keep=1).logits[:, -1].cpu()
        kl = kl_to_clean().measure(Seen(edited, clean=logits[:, 0]))
    return [{**row, **_finite("kl", float(value))} for row, value in zip(found, kl, strict=True)]


def _perplexity(logits: Float[Tensor, "step vocab"], ids: list[int]) -> dict[str, float]:
    told = logits.float().log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])
    return _finite("perplexity", float((-told.double().mean()).exp()))


def _finite(name: str, value: float) -> dict[str, float]:
    return {name: value} if math.isfinite(value) else {}


def _with_answers(batch: Batch, ids: list[list[int]], n: int, one_way: bool) -> Batch:
    """A batch with an answer behind each prompt, padded on the right."""
    # What stands behind an answer is seen by none of its tokens; any token will do.
    new = torch.tensor([row + [0] * (n - len(row)) for row in ids], dtype=torch.long).reshape(len(ids), n)
    kept = torch.arange(n) < torch.tensor([len(row) for row in ids])[:, None]
    tensors = continued(batch.tensors, new, kept, one_way=one_way)
    real = torch.cat([batch.tokens.real, kept], 1)
    image = torch.nn.functional.pad(batch.tokens.image, (0, n))
    return replace(batch, tensors=tensors, tokens=replace(batch.tokens, real=real, image=image, source=None))
