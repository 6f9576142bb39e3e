"""What the modules of a model are given and return in one forward pass, seen by bare hooks."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from cmrm_interp.axes import Tensor
from cmrm_interp.families.views import AttentionCall
from cmrm_interp.families.views.base import first


@dataclass(frozen=True)
class Call:
    """One module's first call in a pass.

    Attributes:
        order: number of the call among those recorded, counted when the module is entered.
        given: the first tensor that it was given, or None.
        returned: the first tensor that it returned, or None.
        whole: all tensors that it returned.
        times: how often the module was called.
    """

    order: int
    given: Tensor | None
    returned: Tensor | None
    whole: tuple[Tensor, ...] = ()
    times: int = 1


@dataclass(frozen=True)
class Record:
    """One forward pass.

    Attributes:
        calls: of the modules that were watched, by path.
        attention: calls of transformers' attention function, by the path of the module that called it.
    """

    calls: dict[str, Call] = field(default_factory=dict)
    attention: dict[str, AttentionCall] = field(default_factory=dict)


def record(hf: Any, paths: Collection[str], model: Any, tensors: Mapping[str, Tensor]) -> Record:
    """First calls of some modules while a model runs once.

    Args:
        hf: the whole Hugging Face model.
        paths: modules to watch.
        model: what is called: `hf`, or a part of it.
        tensors: what it is called with.
    """
    modules = dict(hf.named_modules())
    order: dict[str, int] = {}
    found = Record()
    handles = []
    for path in paths:
        handles.append(modules[path].register_forward_pre_hook(_entering(path, order)))
        handles.append(modules[path].register_forward_hook(_leaving(path, order, found.calls), with_kwargs=True))
    try:
        with torch.no_grad(), _attention_seen({id(module): path for path, module in modules.items()}, found.attention):
            model(**tensors, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _entering(path: str, order: dict[str, int]) -> Any:
    def _hook(*_: Any) -> None:
        order.setdefault(path, len(order))

    return _hook


def _leaving(path: str, order: dict[str, int], calls: dict[str, Call]) -> Any:
    def _hook(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        if path in calls:
            calls[path] = replace(calls[path], times=calls[path].times + 1)
            return
        given = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.is_floating_point()), None)
        # Values are copied, because a model may go on to change them in place.
        parts = out if isinstance(out, tuple | list) else (out,)
        whole = tuple(part.detach().clone() for part in parts if isinstance(part, Tensor))
        returned = whole[0] if whole and isinstance(first(out), Tensor) else None
        calls[path] = Call(order[path], None if given is None else given.detach().clone(), returned, whole)

    return _hook


@contextmanager
def _attention_seen(paths: Mapping[int, str], seen: dict[str, AttentionCall]) -> Iterator[None]:
    # Takes more than a second to import, and is first needed when a model is there.
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    look_up = ALL_ATTENTION_FUNCTIONS.get_interface

    def _looked_up(kind: str, default: Any) -> Any:
        function = look_up(kind, default)

        def _call(module: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> Any:
            given = (query.detach().clone(), key.detach().clone(), value.detach().clone())
            out = function(module, query, key, value, *rest, **named)
            mask = rest[0] if rest else named.get("attention_mask")
            if id(module) in paths and named.get("scaling") is not None:
                z = out[0].detach().clone()
                call = AttentionCall(z, z, *given, mask, float(named["scaling"]), named.get("softcap"))
                seen.setdefault(paths[id(module)], call)
            return out

        return _call

    ALL_ATTENTION_FUNCTIONS.get_interface = _looked_up  # type: ignore[method-assign]
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS.get_interface


def alike(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two values are the same up to the order of sums, and up to rounding of the coarser one."""
    if a is None or b is None or a.numel() != b.numel():
        return False
    slack = 1e-3 if {a.dtype, b.dtype} <= {torch.float32, torch.float64} else 2e-2
    a, b = a.detach().float().flatten(), b.detach().float().flatten()
    return float((a - b).norm()) <= slack * float(b.norm()) + 1e-6
