"""How likely a model finds given answers, with gradients to what it is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Bool, Float, Int, Tensor
from cmrm_interp.encoding.continued import continued
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.inputs import Inputs
from cmrm_interp.remote import RemoteNetwork
from cmrm_interp.running import each_batch, to_device


@dataclass(frozen=True, eq=False)
class Answers:
    """Texts in the place of a model's answers.

    Attributes:
        ids: their tokens, padded on the right.
        real: which of them are no padding.
    """

    ids: Int[Tensor, "batch new"]
    real: Bool[Tensor, "batch new"]

    @classmethod
    def of(cls, model: Any, targets: str | Sequence[str], n: int) -> "Answers":
        """Tokens of the targets, each text by itself, without special tokens.

        Args:
            model: a `Model` with a tokenizer.
            targets: one text for all prompts, or one for each.
            n: how many prompts there are.

        Raises:
            ModelError: a model without a tokenizer, or one that runs elsewhere.
            InputError: another number of targets, or one without tokens.
        """
        if model.tokenizer is None:
            raise ModelError(
                "this model was loaded without a tokenizer, which targets need: load it with its processor"
            )
        if isinstance(model.network, RemoteNetwork):
            raise ModelError("an attack takes gradients on this machine: load the model without remote=")
        texts = [targets] * n if isinstance(targets, str) else list(targets)
        if len(texts) != n:
            raise InputError(f"{len(texts)} targets for {n} prompts: give one text for all, or one for each")
        rows = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        short = [text for text, row in zip(texts, rows, strict=True) if not row]
        if short:
            raise InputError(f"the target {short[0]!r} has no tokens: give the beginning of the answer that is wanted")
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        real = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
        return cls(ids, real)

    def rows(self, rows: slice) -> "Answers":
        """Those of some prompts."""
        return Answers(self.ids[rows], self.real[rows])

    def loss(self, model: Any, tensors: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
        """Mean negative log-likelihood of each answer's tokens behind its prompt, in nats a token.

        Args:
            model: the model.
            tensors: an encoding of the prompts, padded on the left.
        """
        network = model.network
        given = to_device(network, continued(tensors, self.ids, self.real, one_way=network.family.one_way))
        kept: list[Tensor] = []

        def _call() -> None:
            width = self.ids.shape[1] + 1
            kept.append(network.model(given)(**given, use_cache=False, logits_to_keep=width).logits)

        network.run(_call, given, {})
        logits = kept[0][:, -1 - self.ids.shape[1] : -1].float()
        found = logits.log_softmax(-1).gather(-1, self.ids.to(logits.device)[..., None])[..., 0].cpu()
        return -(found * self.real).sum(1) / self.real.sum(1)


def answer_loss(model: Any, inputs: Inputs, targets: str | Sequence[str], batch_size: int = 16) -> Float[Tensor, " n"]:
    """Mean negative log-likelihood of given answers, in nats a token; lower is likelier.

    Args:
        model: a `Model`.
        inputs: prompts, with images or without.
        targets: one text for all prompts, or one for each.
        batch_size: rows a batch.

    Raises:
        ModelError: no tokenizer, or a model elsewhere.
        InputError: another number of targets, or one without tokens.
    """
    inputs = inputs.left_padded()
    answers = Answers.of(model, targets, len(inputs))

    @torch.no_grad()
    def _one(batch: Any) -> Tensor:
        rows = slice(int(batch.rows[0]), int(batch.rows[-1]) + 1)
        return answers.rows(rows).loss(model, batch.tensors)

    return torch.cat(list(each_batch(inputs, batch_size, _one, "likelihood of answers")))
