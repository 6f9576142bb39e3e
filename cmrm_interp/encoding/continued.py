"""An encoding with something behind each prompt: an answer that has begun, or one whose likelihood is asked."""

from collections.abc import Mapping

import torch

from cmrm_interp.axes import Bool, Int, Tensor

KINDS = ("token_type_ids", "mm_token_type_ids")
"""Tensors that say of what kind each token is."""


def continued(
    tensors: Mapping[str, Tensor],
    ids: Int[Tensor, "batch new"],
    real: Bool[Tensor, "batch new"] | None = None,
    *,
    one_way: bool,
) -> dict[str, Tensor]:
    """An encoding with tokens behind each prompt.

    New tokens see of the images what the prompt's last token sees of them. Their kind is text (0), or what the prompt
    does not see (1) where tokens of a prompt see one another.

    Args:
        tensors: as the model is called with them, padded on the left.
        ids: the new tokens, equally many in each row.
        real: which of them are none of padding; all of them without it.
        one_way: whether tokens of a prompt see only what is before them (`FamilyMap.one_way`).
    """
    shape, width = tensors["input_ids"].shape, ids.shape[1]
    out = dict(tensors)
    new = {"input_ids": ids, "attention_mask": torch.ones_like(ids) if real is None else real}
    new |= dict.fromkeys(KINDS, torch.full_like(ids, int(not one_way)))
    for name, tensor in tensors.items():
        if not width or tensor.shape[:2] != shape:
            continue
        if name in new:
            more = new[name]
        elif tensor.ndim > 2:
            more = tensor[:, -1:].expand(-1, width, *tensor.shape[2:])
        else:
            continue
        out[name] = torch.cat([tensor, more.to(tensor.device, tensor.dtype)], 1)
    return out
