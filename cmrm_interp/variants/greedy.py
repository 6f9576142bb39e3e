"""Greedy choice of new tokens as Hugging Face's `generate` makes it: with its processors, to its end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cmrm_interp.axes import Bool, Float, Int, Tensor
from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.generation import settings_of
from cmrm_interp.running import to_device
from cmrm_interp.tracing import Network


@dataclass(frozen=True)
class Greedy:
    """What Hugging Face's `generate` would do with logits.

    Attributes:
        n: at most so many new tokens.
        pad: token that follows the end of an answer.
        processors: change the scores.
        criteria: say which rows end.
    """

    n: int
    pad: int
    processors: Any
    criteria: Any

    @classmethod
    def of(cls, network: Network, encoder: Encoder, batch: Batch, n: int) -> "Greedy":
        """Ask `generate` what it would use on a batch.

        Args:
            network: the model.
            encoder: of the model.
            batch: rows, padded on the left.
            n: at most so many new tokens.
        """
        settings = settings_of(network, encoder, {"max_new_tokens": n})
        ids, image = batch.tensors["input_ids"], batch.tokens.image
        # Without images, which it would run through their tower.
        plain = {"input_ids": ids.where(~image, ids[:, -1:]), "attention_mask": batch.tokens.real.long()}
        tensors = to_device(network, plain)
        told: dict[str, Any] = {}

        def _loop(model: Any, input_ids: Tensor, logits_processor: Any, stopping_criteria: Any, **rest: Any) -> Tensor:
            told.update(processors=logits_processor, criteria=stopping_criteria)
            return input_ids

        def _call() -> None:
            network.model(tensors).generate(**tensors, **settings.how, custom_generate=_loop)

        network.run(_call, tensors, {})
        return cls(n, settings.pad, **told)

    def start(self, ids: Int[Tensor, "batch pos"], n_variants: int) -> "Search":
        """Begin answers of some variants on the same prompts."""
        ended = torch.zeros(n_variants, ids.shape[0], dtype=torch.bool)
        return Search(self, ids.expand(n_variants, *ids.shape), ended, ids.shape[1])


@dataclass
class Search:
    """Answers of some variants as far as they are chosen.

    Attributes:
        greedy: chooses.
        ids: tokens so far, padding behind the end of an answer.
        ended: rows whose answers have ended.
        width: tokens of the prompts.
        dead: for each step the rows that had ended before it.
    """

    greedy: Greedy
    ids: Int[Tensor, "variant batch pos"]
    ended: Bool[Tensor, "variant batch"]
    width: int
    dead: list[Tensor] = field(default_factory=list)

    @property
    def going(self) -> list[int]:
        """Variants with an answer that has not ended."""
        return (~self.ended).any(1).nonzero().flatten().tolist()

    def tokens(self, variants: Sequence[int]) -> Int[Tensor, "variant batch"]:
        """The last tokens."""
        return self.ids[list(variants), :, -1]

    def choose(self, logits: Float[Tensor, "variant batch vocab"]) -> None:
        """Choose the next token of each variant that is going on, from its logits."""
        tokens = torch.full(self.ended.shape, self.greedy.pad)
        ended = self.ended.clone()
        # Some processors hold a number for each row of the batch, so that variants go through them one by one.
        for k, scores in zip(self.going, logits, strict=True):
            ids = self.ids[k].to(scores.device)
            chosen = self.greedy.processors(ids, scores.to(torch.float32, copy=True)).argmax(-1)
            tokens[k] = chosen.cpu().where(~self.ended[k], self.greedy.pad)
            ids = torch.cat([ids, chosen[:, None]], 1)
            ended[k] |= self.greedy.criteria(ids, scores).cpu()
        self.dead.append(self.ended)
        self.ended = ended
        self.ids = torch.cat([self.ids, tokens[..., None]], -1)

    def answers(self) -> list[Int[Tensor, "batch new"]]:
        """New tokens of each variant, padded on the right, as long as its longest answer."""
        alive = ~torch.stack(self.dead, -1)
        new = self.ids[..., self.width :]
        return [row[:, : int(some.any(0).sum())] for row, some in zip(new, alive, strict=True)]
