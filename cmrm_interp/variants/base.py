"""What is asked of variants, and what comes of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.hooks import pos_axis
from cmrm_interp.tracing import Visit

Path = Literal["prefix", "resumed", "whole"]


@dataclass(frozen=True)
class Wants:
    """What is asked of every variant; several things come of one pass where they can.

    Attributes:
        logits: ``"last"`` for those of the next token, ``"all"`` for every position, None for none.
        activations: hook points of the decoder, read at each row's last prompt token, after the interventions.
        new_tokens: length of greedy answers; 0 for none.
    """

    logits: Literal["last", "all"] | None = "last"
    activations: tuple[str, ...] = ()
    new_tokens: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of one variant on one batch, on the CPU.

    Attributes:
        variant: its number.
        path: how it was run: ``"prefix"`` (on the shared keys and values of the prompt), ``"resumed"`` (from the
            first block that it changes), or ``"whole"``.
        logits: ``batch vocab``, or ``batch pos vocab`` (padded as the batch is), or None.
        activations: hook point to ``batch *shape``.
        answers: ids of new tokens, padded on the right, or None.
    """

    variant: int
    path: Path
    logits: Float[Tensor, "..."] | None = None
    activations: Mapping[str, Tensor] = field(default_factory=dict)
    answers: Int[Tensor, "batch new"] | None = None


@dataclass(frozen=True)
class KeepLast:
    """A visit that keeps the activation at each row's last token, in a batch that is padded on the left.

    Attributes:
        hook: hook point.
        found: where it is kept.
        edit: what is done to the activation before, or None.
    """

    hook: str
    found: dict[str, Tensor]
    edit: Visit | None = None

    def __call__(self, activation: Tensor, step: int) -> Tensor:
        """Edit and keep."""
        new = activation if self.edit is None else self.edit(activation, step)
        new = activation if new is None else new
        self.found[self.hook] = new.select(pos_axis(self.hook), -1).detach().to("cpu", copy=True)
        return new
