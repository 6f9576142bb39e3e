"""What the modules of a model are given and return in one forward pass, seen by bare hooks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cmrm_interp.axes import Tensor
from cmrm_interp.families.views.base import first


@dataclass(frozen=True)
class Call:
    """One module's first call in a pass.

    Attributes:
        order: number of the call among those recorded, counted when the module is entered.
        given: the first tensor that it was given, or None.
        returned: the first tensor that it returned, or None.
    """

    order: int
    given: Tensor | None
    returned: Tensor | None


def record(hf: Any, paths: Iterable[str], model: Any, tensors: Mapping[str, Tensor]) -> dict[str, Call]:
    """First calls of some modules while a model runs once.

    Args:
        hf: the whole Hugging Face model.
        paths: modules to watch.
        model: what is called: `hf`, or a part of it.
        tensors: what it is called with.
    """
    modules = dict(hf.named_modules())
    order: dict[str, int] = {}
    calls: dict[str, Call] = {}
    handles = []

    def _enter(path: str) -> Any:
        def _hook(*_: Any) -> None:
            order.setdefault(path, len(order))

        return _hook

    def _leave(path: str) -> Any:
        def _hook(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            given = next(
                (v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.is_floating_point()), None
            )
            value = first(out) if isinstance(out, Tensor | tuple | list) else None
            kept = [None if not isinstance(v, Tensor) else v.detach().clone() for v in (given, value)]
            calls.setdefault(path, Call(order[path], *kept))

        return _hook

    for path in paths:
        handles.append(modules[path].register_forward_pre_hook(_enter(path)))
        handles.append(modules[path].register_forward_hook(_leave(path), with_kwargs=True))
    try:
        with torch.no_grad():
            model(**tensors)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def alike(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two values are the same up to the order of sums."""
    if a is None or b is None or a.numel() != b.numel():
        return False
    a, b = a.detach().float().flatten(), b.detach().float().flatten()
    return float((a - b).norm()) <= 1e-3 * float(b.norm()) + 1e-6
