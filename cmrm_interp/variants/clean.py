"""One pass of the clean model over a batch, and what it leaves for the variants."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map_only
from transformers import DynamicCache

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.encoding import Batch
from cmrm_interp.prefix import positions_of
from cmrm_interp.running import to_device, with_positions
from cmrm_interp.tracing import Network
from cmrm_interp.variants.base import KeepLast, Wants


@dataclass(frozen=True)
class Clean:
    """What the clean model made of a batch.

    Attributes:
        logits: ``batch pos vocab``, of the last token alone unless all were wanted.
        activations: hook point to the activations at each row's last token.
        cache: keys and values of all tokens, or None.
        raw: path of a module to what it returned.
    """

    logits: Float[Tensor, "batch pos vocab"]
    activations: Mapping[str, Tensor]
    cache: DynamicCache | None
    raw: Mapping[str, Any]


def run_clean(network: Network, batch: Batch, wants: Wants, cached: bool = False, modules: Sequence[str] = ()) -> Clean:
    """Run the clean model once.

    Args:
        network: the model.
        batch: rows, padded on the left.
        wants: what is asked of the variants.
        cached: whether variants go on from the keys and values.
        modules: paths of the modules whose outputs are kept.
    """
    given: dict[str, Any] = {"use_cache": cached, "logits_to_keep": 0 if wants.logits == "all" else 1}
    tensors = with_positions(network, batch)
    if cached:
        # Those of the tokens that are run behind this prompt have to go on from its own.
        tensors = {**tensors, "position_ids": positions_of(network, batch)}
        given["past_key_values"] = DynamicCache()
    found: dict[str, Tensor] = {}
    visits = {name: KeepLast(name, found) for name in wants.activations}
    logits, raw = _run(network, to_device(network, tensors), given, visits, modules)
    return Clean(logits, found, given.get("past_key_values"), raw)


def copied(value: Any) -> Any:
    """A module's output with tensors of its own, as some models write into what their modules returned."""
    return tree_map_only(Tensor, torch.clone, value)


def _run(
    network: Network, tensors: dict[str, Tensor], given: dict[str, Any], visits: Any, modules: Sequence[str]
) -> tuple[Tensor, dict[str, Any]]:
    result: list[Tensor] = []

    @torch.no_grad()
    def _call() -> None:
        result.append(network.model(tensors)(**tensors, **given).logits)

    with _noted(network, modules) as raw:
        network.run(_call, tensors, visits)
    return result[0], raw


@contextmanager
def _noted(network: Network, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    raw: dict[str, Any] = {}
    attentions = frozenset(block.at(block.kind.attn) for block in network.blocks)
    handles = [network.modules[path].register_forward_hook(_note(raw, path, attentions)) for path in paths]
    try:
        yield raw
    finally:
        for handle in handles:
            handle.remove()


def _note(raw: dict[str, Any], path: str, attentions: frozenset[str]) -> Callable[..., None]:
    def _hook(module: Any, given: Any, returned: Any) -> None:
        # An attention's weights are as large as all else together, and nothing behind it uses them.
        light = isinstance(returned, tuple) and len(returned) == 2 and returned[1] is not None
        raw[path] = copied((returned[0], None) if light and path in attentions else returned)

    return _hook
