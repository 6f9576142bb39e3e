"""Knockouts in windows of layers: where information flows from some tokens to others."""

from collections.abc import Iterable
from typing import Any, TypedDict, Unpack

from cmrm_interp.arguments import check_arguments
from cmrm_interp.errors import InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Knockout
from cmrm_interp.metrics import Metrics, kl_to_clean
from cmrm_interp.model import Model
from cmrm_interp.positions import Position
from cmrm_interp.running import BatchSize
from cmrm_interp.store import PathLike
from cmrm_interp.sweeps import SweepResult, sweep


class Options(TypedDict, total=False):
    """What else a knockout sweep can be told; see `knockout_sweep`."""

    metric: Metrics | None
    heads: int | Iterable[int] | None
    store: PathLike | None
    batch_size: BatchSize


def knockout_sweep(
    model: Model,
    inputs: Inputs,
    queries: Position = "last",
    keys: Position = "image",
    window: int = 1,
    **options: Unpack[Options],
) -> SweepResult:
    """Cut attention in one window of layers after another, and measure what that does (Geva et al. 2023, figure 2).

    Several flows in one grid are a `ci.sweep` with `ci.Knockout`: ``over={"flow": {"image to last": ("last", "image"),
    ...}, "layer": range(model.n_layers)}, intervention=lambda flow, layer: ci.Knockout(*flow, layers=layer)``.

    Args:
        model: loaded with ``attn_implementation="eager"``.
        inputs: from `Model.prepare`.
        queries: tokens that attend.
        keys: tokens that they no longer attend to.
        window: number of layers in which attention is cut at once: the layer that the result names and those around
            it (of an even number, one more behind it than before it). Windows at the ends have fewer.
        **options: ``metric=`` as in `ci.sweep` (the KL divergence from the clean model if left out), ``heads=`` as in
            `ci.Knockout`, ``store=`` and ``batch_size=`` as in `ci.sweep`.

    Returns:
        A `SweepResult` with the axis layer, the middle of each window.

    Raises:
        InputError: a window that is no number from 1 to the number of layers.
        HookPointError: a position or head that there is not, or a model whose attention cannot be cut.
        ModelError: the model was not loaded with eager attention.
    """
    check_arguments("knockout_sweep", options, Options.__annotations__)
    if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= model.n_layers:
        raise InputError(f"window={window!r}: give a number of layers, 1 to {model.n_layers}")
    metric, heads = options.get("metric"), options.get("heads")
    how: Any = {name: value for name, value in options.items() if name in ("store", "batch_size")}

    def _cut(layer: int) -> Knockout:
        return Knockout(queries, keys, _around(layer, window, model.n_layers), heads)

    layers = range(model.n_layers)
    return sweep(model, inputs, {"layer": layers}, _cut, kl_to_clean() if metric is None else metric, **how)


def _around(layer: int, window: int, n_layers: int) -> range:
    first = layer - (window - 1) // 2
    return range(max(0, first), min(n_layers, first + window))
