"""Sweeps: metrics over a grid of interventions, with what the cells have in common computed once."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack

from cmrm_interp.arguments import check_arguments
from cmrm_interp.errors import InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.metrics import Metric, Metrics, named
from cmrm_interp.model import Model
from cmrm_interp.records import append, read
from cmrm_interp.running import BatchSize
from cmrm_interp.store import PathLike
from cmrm_interp.sweeps import rows
from cmrm_interp.sweeps.grid import Grid
from cmrm_interp.sweeps.header import Header
from cmrm_interp.sweeps.ledger import Ledger
from cmrm_interp.sweeps.plan import Making, Plan, planned
from cmrm_interp.sweeps.result import RECORDS, SweepResult
from cmrm_interp.sweeps.run import Measuring
from cmrm_interp.sweeps.spread import Workers, spread
from cmrm_interp.sweeps.work import Work


class Options(TypedDict, total=False):
    """What else a sweep can be told.

    Attributes:
        store: a folder; see `sweep`.
        batch_size: prompts a batch, or ``"auto"``.
        workers: `ci.Workers` to run it on.
    """

    store: PathLike | None
    batch_size: BatchSize
    workers: Workers | None


def sweep(
    model: Model,
    inputs: Inputs | Callable[..., Inputs],
    over: Mapping[str, Any],
    intervention: Making,
    metric: Metrics,
    **options: Unpack[Options],
) -> SweepResult:
    """Metrics in every cell of a grid, and of the clean model.

    Cells share what they have in common: the vision tower, the prompt's keys and values (where only the last token
    is edited), the blocks below the first edit. The result says how each was run: ``"prefix"`` (on the prompt's keys
    and values), ``"resumed"`` (from the first block that it changes) or ``"whole"`` (nothing could be shared).

    Args:
        model: the model.
        inputs: from `Model.prepare`; or a function of axis values, ``lambda image: base.with_images(image)``.
        over: values of each axis, ``{"layer": range(model.n_layers), "alpha": [0.5, 1.0]}``; a dict gives labels to
            values that are no numbers or names, ``{"image": {"blank": picture, ...}}``.
        intervention: a function of axis values, by the names of its parameters, that returns an intervention, a list
            of them, or a fitted recipe: ``lambda layer, alpha: ci.Subtract(shift, alpha, layers=[layer])``.
        metric: a function from logits ``batch vocab`` to ``batch``, one of `ci.metrics`, or several (list, or dict by
            name).
        **options: ``store=``, a folder: values and Records are written there as they come, and the same call goes on
            where an interrupted one stopped; ``batch_size=`` prompts a batch (``"auto"`` halves it when memory runs
            out); ``workers=``, `ci.Workers` of the same model, who run it all: this one plans, and checks.

    Raises:
        InputError: an empty grid, a parameter that is no axis, an axis that nobody uses, a metric that gives NaN or
            another shape; the message names the cell.
        HookPointError: a hook point that there is not, in any cell; nothing has been run then.
        MismatchError: the folder holds another sweep, or inputs differ in number.
    """
    check_arguments("sweep", options, Options.__annotations__)
    metrics, plan = named(metric), planned(model, inputs, Grid.of(over), intervention)
    _need_words(model, metrics)
    store = options.get("store")
    header = Header.of(model, plan, metrics, signed=store is not None)
    ledger = Ledger.new(header) if store is None else Ledger.open(header, store)
    written = _Written.of(store, ledger)
    for _ in _run(Work(Measuring(model, metrics), ledger), plan, options):
        written.add()
    written.add()
    result = SweepResult(ledger)
    _warn(result)
    return result


def _run(work: Work, plan: Plan, options: Options) -> Iterator[None]:
    batch_size, workers = options.get("batch_size", "auto"), options.get("workers")
    if workers is None:
        return work.run(plan, batch_size)
    if not isinstance(workers, Workers):
        raise InputError(f"workers={workers!r}: give ci.Workers(source, n) of the same model")
    return spread(work, plan, batch_size, workers)


class _Written:
    """Records of finished runs in the folder's file, each once."""

    def __init__(self, ledger: Ledger, path: Path | None, keys: set[int]) -> None:
        self.ledger, self.path, self.keys = ledger, path, keys

    @classmethod
    def of(cls, store: PathLike | None, ledger: Ledger) -> "_Written":
        """What a store holds of a sweep that was begun."""
        path = None if store is None else Path(store) / RECORDS
        if path is None or not path.exists():
            return cls(ledger, path, set())
        there = [dict(record.condition) for record in read(path)]
        # A run whose last record was not written is written again, whole.
        n = len(ledger.header.metrics)
        keys = {key for key, labels in enumerate(rows.labels_of(ledger.header)) if there.count(labels) >= n}
        return cls(ledger, path, keys)

    def add(self) -> None:
        """Write the runs that have become whole."""
        if self.path is None:
            return
        new = [key for key in range(self.ledger.header.n_runs) if key not in self.keys and self.ledger.whole(key)]
        if new:
            append(self.path, rows.records(self.ledger, new))
            self.keys.update(new)


def _need_words(model: Model, metrics: Mapping[str, Metric]) -> None:
    for name, metric in metrics.items():
        if metric.needs.new_tokens and model.tokenizer is None:
            raise InputError(f"metric {name!r} reads answers, and this model was loaded without a tokenizer")


def _warn(result: SweepResult) -> None:
    # Of cells that are run from different blocks on, some always begin at the first.
    if sum(result.reasons.values()) > result.paths.size / 2:
        reasons = "; ".join(result.reasons)
        count = sum(result.reasons.values())
        warnings.warn(f"{count} of {result.paths.size} cells were run whole: {reasons}", stacklevel=3)
