"""Weights: a short hash of them, by which a model is known."""

import hashlib
from typing import Any

import torch

from cmrm_interp.axes import Tensor


def weights_hash(family: str, hf: Any) -> str:
    """Short hash of a network's weights, and of the name of its family."""
    total = hashlib.sha256(family.encode())
    for name, given in hf.named_parameters():
        parameter = _brought_back(hf, name) if given.device.type == "meta" else given
        # bf16 is what most checkpoints hold, so that loading in another dtype gives the same hash.
        head = parameter.detach().flatten()[:256].to("cpu", torch.bfloat16).view(torch.int16)
        total.update(f"{name}{tuple(parameter.shape)}".encode() + head.numpy().tobytes())
    return total.hexdigest()[:16]


def _brought_back(hf: Any, name: str) -> Tensor:
    from accelerate.utils import align_module_device

    # accelerate keeps weights that are offloaded elsewhere, and puts them in their places for as long as it is asked.
    path, _, own = name.rpartition(".")
    module = hf.get_submodule(path)
    with align_module_device(module):
        return getattr(module, own).detach().clone()
