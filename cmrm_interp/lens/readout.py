"""What is kept of the logits at some tokens: the likeliest tokens, entropy, and how some tokens stand."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from cmrm_interp.axes import Float, Int, Tensor


@dataclass(frozen=True, eq=False)
class Readout:
    """Of ``n`` tokens (with an axis of layers in front, once they are put together).

    Attributes:
        top: ids of the likeliest tokens, likeliest first.
        probability: of these.
        entropy: of the distribution over the vocabulary, in nats.
        rank: of the tokens that were asked for; 1 is the likeliest.
        asked: probability of the tokens that were asked for.
        logits: all of them, or with an empty last axis where they were not to be kept.
    """

    top: Int[Tensor, "*layer n k"]
    probability: Float[Tensor, "*layer n k"]
    entropy: Float[Tensor, "*layer n"]
    rank: Int[Tensor, "*layer n t"]
    asked: Float[Tensor, "*layer n t"]
    logits: Float[Tensor, "*layer n vocab"]


def read_out(logits: Float[Tensor, "n vocab"], k: int, asked: Sequence[int], keep: bool = False) -> Readout:
    """What is kept of logits, on the CPU, worked out in fp32.

    Args:
        logits: of the next token.
        k: how many of the likeliest.
        asked: ids of tokens whose rank and probability are wanted.
        keep: whether all logits are kept.
    """
    logarithms = logits.float().log_softmax(-1)
    probability, top = logarithms.topk(k)
    own = logarithms[:, list(asked)]
    rank = (
        torch.stack([(logarithms > own[:, i : i + 1]).sum(-1) + 1 for i in range(own.shape[1])], -1) if asked else own
    )
    # A probability of zero has no part in the entropy, but its logarithm is infinite.
    entropy = -(logarithms.exp() * logarithms.clamp(min=-1e4)).sum(-1)
    kept = logits if keep else logits[:, :0]
    found = Readout(top, probability.exp(), entropy, rank.long(), own.exp(), kept)
    return Readout(**{field.name: getattr(found, field.name).detach().cpu() for field in fields(found)})


def joined(parts: Sequence[Readout], new_axis: bool = False) -> Readout:
    """Readouts one after another along the axis of tokens, or (with a new axis) of layers in front."""
    join = torch.stack if new_axis else lambda tensors: torch.cat(tensors, -2)
    names = [field.name for field in fields(Readout)]
    table = {name: [getattr(part, name) for part in parts] for name in names}
    flat = {"entropy": torch.stack(table["entropy"]) if new_axis else torch.cat(table["entropy"], -1)}
    return Readout(**{name: join(table[name]) for name in names if name != "entropy"}, **flat)
