"""Checkpoints of an unfinished training, from which a killed run goes on as if it had not been killed."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cmrm_interp.axes import Tensor
from cmrm_interp.errors import MismatchError
from cmrm_interp.store import load, save

KIND = "unfinished fine-tuning"
_FILE = "checkpoint.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")
_STATE = ("step", *_MOMENTS)


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of one training, in a folder beside the one that it will write.

    Attributes:
        folder: holds one checkpoint, the last.
        run: hash of model, examples and settings; another run does not go on with it.
        names: of the weights that move, in the optimizer's order.
    """

    folder: Path
    run: str
    names: Sequence[str]

    @property
    def path(self) -> Path:
        """Its file."""
        return self.folder / _FILE

    def write(self, optimizer: torch.optim.Optimizer, step: int, curve: Sequence[float]) -> None:
        """Keep weights and the optimizer's state, whole or not at all.

        Args:
            optimizer: AdamW over the weights.
            step: steps done.
            curve: loss of each.

        Raises:
            StoreError: the disk is full.
        """
        tensors = {}
        for name, weight in zip(self.names, _weights(optimizer), strict=True):
            # A weight that no example has reached yet (a projector's, while all was text) has no state.
            state = optimizer.state.get(weight, {})
            tensors |= {f"weight/{name}": weight, **{f"{part}/{name}": state[part] for part in _STATE if state}}
        save(self.path, tensors, {"kind": KIND, "run": self.run, "step": step, "curve": list(curve)})

    def resume(self, optimizer: torch.optim.Optimizer) -> list[float]:
        """Put weights and the optimizer's state back, where there is a checkpoint.

        Returns:
            Loss of each step that was done; empty where there is no checkpoint.

        Raises:
            MismatchError: the checkpoint is of another run.
            StoreError: it is damaged.
        """
        if not self.path.exists():
            return []
        tensors, header = load(self.path, kind=KIND)
        if header["run"] != self.run:
            raise MismatchError(
                f"{self.folder} holds the checkpoint of another fine-tuning (other model, examples or settings):"
                " delete it to begin anew, or write to another folder"
            )
        for name, weight in zip(self.names, _weights(optimizer), strict=True):
            _put_back(optimizer, weight, name, tensors)
        return list(header["curve"])

    def remove(self) -> None:
        """Delete what is no longer needed."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _weights(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


@torch.no_grad()
def _put_back(
    optimizer: torch.optim.Optimizer,
    weight: torch.nn.Parameter,
    name: str,
    tensors: Mapping[str, Tensor],
) -> None:
    weight.copy_(tensors[f"weight/{name}"])
    if f"step/{name}" in tensors:
        moments = {m: tensors[f"{m}/{name}"].to(weight.device, weight.dtype) for m in _MOMENTS}
        optimizer.state[weight] = {"step": tensors[f"step/{name}"].cpu(), **moments}
