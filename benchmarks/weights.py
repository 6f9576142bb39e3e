"""Random weights made where they will live, in the dtype that they will have; and how many layers fit."""

import math
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from tqdm.auto import tqdm

from benchmarks.shapes import Shape

# What is left over is for activations, caches and whoever else is on the machine.
SHARE = 0.6


def build(shape: Shape, layers: int | None, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Any:
    """A model of a shape with random weights; no copy in another dtype or place is ever made.

    Args:
        shape: the sizes.
        layers: decoder blocks, or None for all.
        device: where the weights are made.
        dtype: of the weights; buffers keep the one that Hugging Face gives them.
        seed: of the weights.
    """
    hf = empty(shape, layers)
    generator = torch.Generator(device).manual_seed(seed)
    total = sum(parameter.numel() for parameter in hf.parameters())
    with tqdm(total=total, desc="random weights", unit="", unit_scale=True, delay=2, leave=False) as bar:
        for path, parameter in list(hf.named_parameters()):
            owner, _, name = path.rpartition(".")
            value = torch.empty(parameter.shape, dtype=dtype, device=device)
            _fill(value, name, generator)
            hf.get_submodule(owner).register_parameter(name, nn.Parameter(value, requires_grad=False))
            bar.update(value.numel())
    for module in hf.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    hf.config.dtype = dtype
    # A random model would stop at random; every run is to make all the tokens that it is asked for.
    hf.generation_config.eos_token_id = None
    hf.generation_config.pad_token_id = hf.config.get_text_config().pad_token_id or 0
    return hf.eval()


def empty(shape: Shape, layers: int | None) -> Any:
    """The modules of a shape with parameters on the meta device; buffers are real."""
    with init_empty_weights(include_buffers=False):
        return shape.model_class(shape.config(layers))


def parameters(shape: Shape) -> tuple[int, int, int]:
    """Parameters outside the decoder's blocks, parameters of one block, and number of blocks."""
    hf = empty(shape, None)
    blocks = hf.get_decoder().layers
    every = sum(parameter.numel() for parameter in hf.parameters())
    block = sum(parameter.numel() for parameter in blocks[0].parameters())
    return every - block * len(blocks), block, len(blocks)


def layers_that_fit(shape: Shape, dtype: torch.dtype, free: int) -> int:
    """Most decoder blocks whose weights stay below `SHARE` of the free bytes.

    Raises:
        MemoryError: not even one fits.
    """
    rest, block, full = parameters(shape)
    room = free * SHARE / dtype.itemsize - rest
    if room < block:
        raise MemoryError(
            f"{shape.name} with one layer needs {(rest + block) * dtype.itemsize / SHARE / 2**30:.1f} GiB free,"
            f" and {free / 2**30:.1f} GiB are: free some memory, or take a smaller shape"
        )
    return min(full, int(room // block))


def _fill(value: torch.Tensor, name: str, generator: torch.Generator) -> None:
    if value.ndim == 1:
        value.fill_(1.0 if name == "weight" else 0.0)
        return
    value.normal_(0, 1 / math.sqrt(value[0].numel()), generator=generator)
