"""The map of one attention: its projections by their names, each proved by the call of the attention function."""

import inspect
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from cmrm_interp.axes import Tensor
from cmrm_interp.families.derive import names
from cmrm_interp.families.derive.record import Record, alike
from cmrm_interp.families.maps import BlockMap
from cmrm_interp.families.views import AttentionCall, Columns, Frame, Scores

Heads = tuple[int, int]


def attention_map(block: nn.Module, attn: str, path: str, record: Record, heads: Heads) -> BlockMap:
    """A block's map with its attention in it.

    Queries, keys and values are left out where they are not what the attention function is given, ``hook_z`` where
    the output projection is given something else than its heads, and scores where the pattern is no softmax of
    them (attention sinks).

    Args:
        block: the block.
        attn: its attention.
        path: of the attention in the model.
        record: a pass in which the attention and its projections were watched.
        heads: numbers of query heads and of key and value heads that the configuration tells.
    """
    module = block.get_submodule(attn)
    found = [names.child(module, kinds) for kinds in (names.QUERY, names.KEY, names.VALUE, names.FUSED, names.OUT)]
    q, k, v, qkv, o = (None if name is None else f"{attn}.{name}" for name in found)
    apart = q is not None and k is not None and v is not None
    kind = BlockMap(attn=attn, q=q, k=k, v=v, o=o, qkv=qkv, flat_mlp=True)
    if not apart:
        kind = replace(kind, q=None, k=None, v=None)
    call = record.attention.get(path)
    if call is None or not _is_interface(module):
        # The heads of one matrix for all, and of what is projected in the end, are known from the call alone.
        return replace(kind, qkv=None, o=None, pattern=False, scores=False)
    return _proved(kind, _Proof(path.removesuffix(attn), record, call, heads), module)


class _Proof:
    """What the call of the attention function says of the projections."""

    def __init__(self, stem: str, record: Record, call: AttentionCall, heads: Heads) -> None:
        self.stem, self.calls, self.call, self.heads = stem, record.calls, call, heads

    def given(self, part: str | None) -> Tensor | None:
        """What a projection was given, if it was called."""
        return self.calls[self.stem + part].given if part is not None and self.stem + part in self.calls else None

    def returned(self, part: str | None) -> Tensor | None:
        """What a projection returned, if it was called."""
        return self.calls[self.stem + part].returned if part is not None and self.stem + part in self.calls else None

    def is_value(self, x: Tensor | None) -> bool:
        """Whether a projection is the values; some models repeat them for each query head before the call."""
        value = self.call.value
        step = value.shape[1] // self.heads[1] if value.shape[1] % self.heads[1] == 0 else 1
        return alike(x, value[:, ::step].transpose(1, 2))

    def is_query(self, x: Tensor | None) -> bool:
        """Whether a projection is as large as the queries, which are turned and perhaps normalised before the call."""
        return x is not None and x.numel() == self.call.query.numel() and self.call.query.shape[1] == self.heads[0]

    def is_z(self, x: Tensor | None) -> bool:
        """Whether something is the heads' outputs, or those times a gate between 0 and 1 for each entry."""
        z = self.call.z
        if x is None or x.numel() != z.numel() or z.shape[-2] != self.heads[0]:
            return False
        x = x.reshape(z.shape)
        gated = bool(((x * z >= 0) & (x.abs() <= 1.01 * z.abs())).all())
        return alike(x, z) or gated


def _proved(kind: BlockMap, proof: _Proof, module: nn.Module) -> BlockMap:
    if kind.qkv is not None:
        n_heads, n_kv = proof.heads
        fused, sizes = proof.returned(kind.qkv), (n_heads, n_kv, n_kv)
        right = fused is not None and proof.is_value(_columns(fused, 2, sizes))
        right = right and proof.is_query(_columns(fused, 0, sizes))
        kind = replace(kind, q=None, k=None, v=None, qkv=kind.qkv if right else None)
    elif not proof.is_value(proof.returned(kind.v)):
        kind = replace(kind, q=None, k=None, v=None)
    elif not proof.is_query(proof.returned(kind.q)):
        kind = replace(kind, q=None)
    last = None if kind.o is None else module.get_submodule(kind.o.removeprefix(f"{kind.attn}."))
    if not isinstance(last, nn.Linear | Conv1D) or not proof.is_z(proof.given(kind.o)):
        kind = replace(kind, o=None)
    pattern = proof.call.query.shape[1] == proof.heads[0]
    return replace(kind, pattern=pattern, scores=pattern and _is_softmax(proof.call))


def _columns(x: Tensor | None, part: int, sizes: Sequence[int]) -> Tensor | None:
    if x is None or x.shape[-1] % sum(sizes):
        return None
    return Columns(part, tuple(sizes)).read(x, Frame({}, {}))


def _is_softmax(call: AttentionCall) -> bool:
    """Whether a softmax of the scores times the values is what the attention function returned."""
    query, key = call.query.shape[2], call.key.shape[2]
    causal = torch.full((query, key), torch.finfo(torch.float32).min, device=call.query.device).triu(1 + key - query)
    mask = call.mask
    if not isinstance(mask, Tensor) or mask.ndim != 4:
        # Fast kinds of attention hide later tokens by themselves.
        mask = causal
    elif mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -1e30)
    scores = Scores().read(call._replace(mask=mask), Frame({}, {})).float()
    value = call.value.repeat_interleave(scores.shape[1] // call.value.shape[1], dim=1).float()
    return alike((scores.softmax(-1) @ value).transpose(1, 2), call.z)


def _is_interface(module: nn.Module) -> bool:
    """Whether a call of the attention function can be found in an attention's source."""
    try:
        return "attention_interface" in inspect.getsource(type(module).forward)
    except (OSError, TypeError):
        # Code that was typed in and not written to a file.
        return False
