"""Path patching: what one head says to others directly, past every other head and MLP.

Wang et al., "Interpretability in the Wild" (arXiv 2211.00593), section 3.1, with heads and MLPs between sender and
receiver frozen (theirs lets MLPs answer; here nothing between does). The sender's head gets its value from
the other run; what this changes in its block's attention output is added to the stream in front of the receivers as it
was; from this stream their queries, keys or values are computed anew, and put into a run that is otherwise untouched.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Tensor
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention, Patch
from cmrm_interp.interventions.units import Units
from cmrm_interp.metrics import Metrics
from cmrm_interp.patching.alignment import Alignment
from cmrm_interp.patching.matching import Unequal
from cmrm_interp.patching.patches import PatchFrom, Source, capture_source
from cmrm_interp.patching.results import PatchingResult
from cmrm_interp.patching.runs import Direction, measured, next_token_metric, paired, result, told
from cmrm_interp.patching.spans import Places, check, places
from cmrm_interp.positions import Position

Head = tuple[int, int]
Through = Literal["q", "k", "v"]


@dataclass(frozen=True)
class Route:
    """From which heads to which, and through what.

    Attributes:
        senders: ``(layer, head)``, one or several; None for every head of the blocks before the first receiver.
        receivers: ``(layer, head)``, one or several, all behind every sender; None for the logits.
        through: what the receivers compute anew: their queries, keys or values.
        positions: tokens at which senders are patched, those with a counterpart in the other run.
        unequal: as in `align`.
    """

    senders: Any = None
    receivers: Any = None
    through: Through = "q"
    positions: Position = "prompt"
    unequal: Unequal = "refuse"

    def __post_init__(self) -> None:
        """Keep heads as tuples; refuse another way in.

        Raises:
            InputError: another `through`, or no heads.
        """
        if self.through not in ("q", "k", "v"):
            raise InputError(f"through={self.through!r}: use 'q', 'k' or 'v'")
        for name in ("senders", "receivers"):
            object.__setattr__(self, name, _heads(name, getattr(self, name)))

    def check(self, model: Any) -> None:
        """Refuse heads that there are not, and paths that no stream takes.

        Raises:
            HookPointError: a layer or head that there is not, or a receiver that is not behind a sender.
            InputError: a model whose blocks do more to the stream than to add to it.
        """
        for layer, head in (*(self.senders or ()), *(self.receivers or ())):
            if not 0 <= layer < model.n_layers or not 0 <= head < model.n_heads:
                raise HookPointError(
                    f"no head ({layer}, {head}): this model has layers 0-{model.n_layers - 1} with heads"
                    f" 0-{model.n_heads - 1}"
                )
        last, first = max(layer for layer, _ in self.chosen(model)), self.first(model)
        if last >= first:
            raise HookPointError(
                f"a head of layer {last} says nothing directly to one of layer {first}: receivers lie in later layers"
                " than senders"
            )
        for layer in range(min(first, model.n_layers)):
            if not model.network.adds_up(f"blocks.{layer}"):
                raise InputError(
                    f"block {layer} of {model.name} does more to the stream than to add to it (it scales it, or adds"
                    " a third part): what one head adds does not arrive as it is, and paths cannot be told apart"
                )

    def first(self, model: Any) -> int:
        """Layer of the first receiver; the number of layers for the logits."""
        return min((layer for layer, _ in self.receivers), default=0) if self.receivers else model.n_layers

    def chosen(self, model: Any) -> tuple[Head, ...]:
        """The senders.

        Raises:
            HookPointError: there is none before the first receiver.
        """
        if self.senders is None and self.first(model) == 0:
            raise HookPointError("a receiver of layer 0 has no head before it: choose a later one")
        every = tuple((layer, head) for layer in range(self.first(model)) for head in range(model.n_heads))
        return every if self.senders is None else self.senders


def path_patching(
    model: Any,
    clean: Inputs,
    corrupt: Inputs,
    metric: Metrics,
    direction: Direction = "noise",
    **route: Any,
) -> PatchingResult:
    """What each sender says directly to the receivers (or the logits), and what becomes of the metric without it.

    Three passes for each sender, two of them only as far as the sender and the receivers.

    Args:
        model: from `ci.load`.
        clean: the run with the behaviour.
        corrupt: the same prompts without it.
        metric: one metric of the next token's logits.
        direction: ``"noise"`` gives the sender its corrupt value in the clean run (as Wang et al.), ``"denoise"`` its
            clean value in the corrupt run.
        **route: ``senders``, ``receivers``, ``through``, ``positions``, ``unequal``: see `Route`.

    Returns:
        Axis ``"sender"``, or ``"layer"`` and ``"head"`` where every head of some layers is a sender.

    Raises:
        HookPointError: a head that there is not, or a receiver that is not behind a sender.
        InputError: another way in, heads that cannot be parted, or a model on which paths cannot be told apart.
        MismatchError: runs that cannot be aligned.
    """
    heads, (name, one) = told(Route, route), next_token_metric(metric)
    alignment = paired(clean, corrupt, direction, heads.unequal)
    paths = Paths.of(model, alignment, heads)
    senders = heads.chosen(model)
    bar = tqdm(senders, desc="path patching", unit="head", delay=1)
    values = [measured(model, alignment.b, one, paths.interventions(sender)) for sender in bar]
    values.append(measured(model, alignment.b, one))
    raw = result(model, _axes(model, senders), np.stack(values), (name, one), "whole")
    to = f"{heads.through} of {', '.join(map(str, heads.receivers))}" if heads.receivers else "the logits"
    source = {name: measured(model, alignment.a, one)}
    return PatchingResult(raw, source, direction, f"head's direct path to {to}")


@dataclass(frozen=True, eq=False)
class Paths:
    """Everything that all senders of one route share.

    Attributes:
        model: runs them.
        alignment: from the run that is patched from to the one that is patched.
        route: the heads.
        source: what heads read in the run that is patched from.
        places: tokens at which they are patched.
        clean: attention outputs and streams of the run that is patched.
    """

    model: Any
    alignment: Alignment
    route: Route
    source: Source
    places: Places
    clean: Activations

    @classmethod
    def of(cls, model: Any, alignment: Alignment, route: Route) -> "Paths":
        """Both runs captured.

        Raises:
            HookPointError: heads that there are not.
            MismatchError: no token has a counterpart.
        """
        route.check(model)
        layers = sorted({layer for layer, _ in route.chosen(model)})
        found = places(alignment, {"all": route.positions})["all"]
        check(str(route.positions), found)
        source = capture_source(model, alignment.a, [_z(layer) for layer in layers], [found])
        hooks = [*(f"blocks.{layer}.hook_attn_out" for layer in layers), *_entrances(model, route)]
        return cls(model, alignment, route, source, found, model.capture(alignment.b, hooks, positions="all"))

    def interventions(self, sender: Head) -> list[Intervention]:
        """What the receivers are given, in a run that is otherwise untouched."""
        change = self._change(sender)
        given = {hook: _wide(self.clean[hook]) + change for hook in _entrances(self.model, self.route)}
        entering = Patch(self._like(given))
        if not self.route.receivers:
            return [entering]
        hooks = [f"blocks.{layer}.attn.hook_{self.route.through}" for layer in self._receiving]
        new = self.model.capture(self.alignment.b, hooks, positions="all", interventions=[entering])
        return [
            Units(Patch(self._like({hook: new[hook]})), self._units(layer, new[hook].shape[2]))
            for layer, hook in zip(self._receiving, hooks, strict=True)
        ]

    def _change(self, sender: Head) -> Tensor:
        layer, head = sender
        hook = f"blocks.{layer}.hook_attn_out"
        patch = Units(PatchFrom(self.source, self.places, (_z(layer),)), head)
        new = self.model.capture(self.alignment.b, hook, positions="all", interventions=[patch])
        # In half precision the small difference of two large numbers would be lost on the way.
        return _wide(new[hook]) - _wide(self.clean[hook])

    @property
    def _receiving(self) -> list[int]:
        return sorted({layer for layer, _ in self.route.receivers})

    def _units(self, layer: int, n: int) -> list[int]:
        """Units of a layer's queries, keys or values that the receivers read."""
        size = self.model.n_heads // n
        heads = {head for own, head in self.route.receivers if own == layer}
        units = sorted({head // size for head in heads})
        sharing = {unit * size + i for unit in units for i in range(size)}
        if sharing != heads:
            raise InputError(
                f"heads {sorted(sharing)} of layer {layer} share what hook_{self.route.through} gives: name all of them"
                " as receivers, or go through='q'"
            )
        return units

    def _like(self, tensors: dict[str, Tensor]) -> Activations:
        return Activations(tensors, "all", self.clean.mask, model=self.clean.model)


def _entrances(model: Any, route: Route) -> list[str]:
    """Streams in front of the receivers."""
    if not route.receivers:
        return [f"blocks.{model.n_layers - 1}.hook_resid_post"]
    return [f"blocks.{layer}.hook_resid_pre" for layer in sorted({layer for layer, _ in route.receivers})]


def _axes(model: Any, senders: Sequence[Head]) -> dict[str, list[Any]]:
    layers, heads = sorted({layer for layer, _ in senders}), list(range(model.n_heads))
    if list(senders) == [(layer, head) for layer in layers for head in heads]:
        return {"layer": layers, "head": heads}
    return {"sender": [f"{layer}.{head}" for layer, head in senders]}


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype.itemsize >= 4 else x.float()


def _z(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_z"


def _heads(name: str, given: Any) -> tuple[Head, ...] | None:
    if given is None:
        return None
    several: Sequence[Any] = [given] if _is_head(given) else list(given) if isinstance(given, Iterable) else [given]
    wrong = [one for one in several if not _is_head(one)]
    if wrong or not several:
        raise InputError(f"{name}={given!r}: give (layer, head), or a list of such pairs")
    return tuple((int(layer), int(head)) for layer, head in several)


def _is_head(given: Any) -> bool:
    return isinstance(given, tuple | list) and len(given) == 2 and all(type(part) is int for part in given)
