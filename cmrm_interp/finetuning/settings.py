"""How to fine-tune: frozen values."""

from dataclasses import dataclass
from typing import Literal

from cmrm_interp.arguments import check_choice
from cmrm_interp.errors import InputError

Part = Literal["decoder", "embedding", "projector"]
PARTS: tuple[Part, ...] = ("decoder", "embedding", "projector")


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (Hu et al., ICLR 2022) in the decoder; all other weights stay as they are.

    Attributes:
        rank: of each adapter.
        alpha: scale, divided by the rank; None for twice the rank.
        dropout: of what goes into an adapter.
        targets: names of linear modules, or ends of them (``"q_proj"``); None for every projection of the decoder's
            attention and MLPs.
    """

    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.05
    targets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what is no adapter.

        Raises:
            InputError: a rank below 1, or a dropout outside 0 to 1.
        """
        if self.rank < 1:
            raise InputError(f"LoRA of rank {self.rank}: give at least 1")
        if not 0 <= self.dropout < 1:
            raise InputError(f"LoRA with dropout {self.dropout}: give at least 0 and less than 1")


@dataclass(frozen=True)
class Training:
    """How long, how fast, and which weights.

    Attributes:
        steps: of the optimizer (AdamW).
        lr: highest learning rate; a short linear warm-up leads to it, and a cosine from it to 0.
        batch_size: examples a pass.
        accumulate: passes a step; the loss is the mean over all tokens of the step's answers.
        warmup: steps of the warm-up.
        weight_decay: of AdamW.
        clip: largest norm of a step's gradients.
        seed: of the examples' order, of adapters and of dropout.
        lora: adapters in place of the weights themselves, or None.
        trains: parts whose weights move, without `lora`. The vision tower never moves, as in LLaVA.
        checkpoint_every: steps between checkpoints, from which a killed run goes on; 0 for none.
        recompute: trade time for memory (gradient checkpointing).
    """

    steps: int = 300
    lr: float = 2e-5
    batch_size: int = 8
    accumulate: int = 1
    warmup: int = 10
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0
    lora: LoRA | None = None
    trains: tuple[Part, ...] = PARTS
    checkpoint_every: int = 100
    recompute: bool = False

    def __post_init__(self) -> None:
        """Refuse what trains nothing.

        Raises:
            InputError: a number that is too small, or a part that there is not.
        """
        for name in ("steps", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: give at least 1")
        if self.warmup < 0:
            raise InputError(f"warmup={self.warmup}: give at least 0")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}={getattr(self, name)}: it has to be above 0")
        if not self.trains and self.lora is None:
            raise InputError("trains=() and no LoRA: nothing would be trained")
        for part in self.trains:
            check_choice("part to train", part, PARTS)
