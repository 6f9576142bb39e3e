"""Going on from an answer that has begun."""

from collections.abc import Mapping

import torch

from cmrm_interp.axes import Int, Tensor


def continued(tensors: Mapping[str, Tensor], said: Int[Tensor, "batch new"]) -> dict[str, Tensor]:
    """An encoding with the beginning of an answer after each prompt.

    Args:
        tensors: as the model is called with them, padded on the left.
        said: tokens of the answer so far, equally many in each row.
    """
    if not said.shape[1]:
        return dict(tensors)
    shape = tensors["input_ids"].shape
    return {
        name: _longer(name, tensor, said) if tensor.shape[:2] == shape else tensor for name, tensor in tensors.items()
    }


def _longer(name: str, tensor: Tensor, said: Tensor) -> Tensor:
    if name == "input_ids":
        new = said
    elif name == "attention_mask":
        new = torch.ones_like(said)
    elif tensor.ndim == 2:
        # Kinds of tokens, where 0 is text.
        new = torch.zeros_like(said)
    else:
        # What each token sees of the images: as the prompt's last token does.
        new = tensor[:, -1:].expand(-1, said.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, new.to(tensor.device, tensor.dtype)], 1)
