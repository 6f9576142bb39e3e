"""How like two classes of anchors a state is: a Gaussian for each, which may know neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import InputError

# Two means of the same prompts differ by so much, where a typical anchor's squared distance is 1.
ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Likeness:
    """Gaussians of two classes with a common covariance (that of Ledoit and Wolf, 2004), at each hook point.

    Attributes:
        centres: by hook point, the means of the harmful and of the harmless class, ``2 d_model``.
        precision: by hook point, ``d_model d_model``: the inverse covariance, scaled so that the mean squared distance
            of the harmful rows from their centre is 1.
    """

    centres: Mapping[str, Float[Tensor, "two d_model"]]
    precision: Mapping[str, Float[Tensor, "d_model d_model"]]

    @classmethod
    def fit(cls, states: Activations, is_harmful: Sequence[bool]) -> "Likeness":
        """Centres and covariance of labelled states.

        Args:
            states: one position a row.
            is_harmful: of each row.

        Raises:
            InputError: the classes have one centre, or all rows of a class are one state.
        """
        harmful = torch.tensor(is_harmful)
        centres, precision = {}, {}
        for hook in states:
            x = states[hook].double().cpu()
            centres[hook] = torch.stack([x[harmful].mean(0), x[~harmful].mean(0)])
            around = x - centres[hook][(~harmful).long()]
            precision[hook] = _scaled(_inverse(around, hook), around[harmful])
            if not _squared(centres[hook][:1], centres[hook][1], precision[hook]) > ROUNDING:
                raise InputError(
                    f"harmful and harmless anchors have the same mean state at {hook!r}: give other anchors"
                )
        return cls(_single(centres), _single(precision))

    def read(self, states: Activations) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """How harmful states read, and how far they are from the harmful centre, as means over the hook points.

        Args:
            states: one position a row, of at least these hook points.

        Returns:
            From 1 (at the harmful centre) to -1 (at the harmless one) on the line between the two, and beyond; and
            squared distances, 1 for a typical harmful anchor.
        """
        read = [self._at(hook, states[hook].double().cpu()) for hook in self.centres]
        return torch.stack([harm for harm, _ in read]).mean(0), torch.stack([far for _, far in read]).mean(0)

    def _at(self, hook: str, x: Float[Tensor, "batch d_model"]) -> tuple[Tensor, Tensor]:
        (harmful, harmless), precision = self.centres[hook].double(), self.precision[hook].double()
        near, far = _squared(x, harmful, precision), _squared(x, harmless, precision)
        return (far - near) / _squared(harmful[None], harmless, precision), near


def _inverse(around: Float[Tensor, "n d_model"], hook: str) -> Tensor:
    from sklearn.covariance import LedoitWolf

    if not bool(around.any()):
        raise InputError(f"all anchors of a class have one state at {hook!r}: give requests that differ")
    return torch.from_numpy(LedoitWolf(assume_centered=True).fit(around.numpy()).precision_)


def _scaled(precision: Tensor, around: Float[Tensor, "n d_model"]) -> Tensor:
    return precision / _squared(around, torch.zeros_like(around[0]), precision).mean()


def _squared(x: Float[Tensor, "n d_model"], centre: Float[Tensor, " d_model"], precision: Tensor) -> Tensor:
    apart = x - centre
    return ((apart @ precision) * apart).sum(-1)


def _single(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {hook: tensor.float() for hook, tensor in tensors.items()}
