"""Checkpoints of stages: safetensors, written whole or not at all."""

from pathlib import Path

from safetensors.torch import load_file, save
from transformers import LlavaForConditionalGeneration

from cmrm_interp.errors import StoreError
from cmrm_interp.store import write_whole

_TIED = "lm_head.weight"  # the embedding under another name; safetensors stores a tensor once


def save_checkpoint(network: LlavaForConditionalGeneration, path: Path) -> None:
    """Saves all weights; a killed run leaves either the whole file or none.

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
