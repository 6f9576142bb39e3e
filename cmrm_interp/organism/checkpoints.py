"""Checkpoints of stages: safetensors, written whole or not at all."""

import os
from pathlib import Path

from safetensors.torch import load_file, save
from transformers import LlavaForConditionalGeneration

from cmrm_interp.errors import StoreError

_TIED = "lm_head.weight"  # the embedding under another name; safetensors stores a tensor once


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk.

    Args:
        path: what to wait for.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a killed run leaves either the whole of it or none.

    Args:
        path: the file; its folder is made if it does not exist.
        content: all of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def save_checkpoint(network: LlavaForConditionalGeneration, path: Path) -> None:
    """Saves all weights.

    Args:
        network: the organism.
        path: the file.
    """
    weights = {name: value.contiguous() for name, value in network.state_dict().items() if name != _TIED}
    write_whole(path, save(weights))


def load_checkpoint(network: LlavaForConditionalGeneration, path: Path) -> None:
    """Loads all weights.

    Args:
        network: the organism; its weights are replaced.
        path: a file of `save_checkpoint`.

    Raises:
        StoreError: if the file holds other weights than the network has.
    """
    weights = load_file(path)
    wanted = {name: value.shape for name, value in network.state_dict().items() if name != _TIED}
    if {name: value.shape for name, value in weights.items()} != wanted:
        raise StoreError(f"{path} holds the weights of another network; delete it to train that stage again")
    network.load_state_dict(weights, strict=False)
    network.tie_weights()
