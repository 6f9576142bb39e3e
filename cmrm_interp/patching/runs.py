"""The two runs of an experiment: which is patched, which it is patched from, and what the metric says of both."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, TypeVar

import numpy as np

from cmrm_interp.errors import InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.metrics import Metric, Metrics, Needs, Seen, named
from cmrm_interp.patching.alignment import Alignment, align
from cmrm_interp.patching.matching import Unequal
from cmrm_interp.provenance import Provenance
from cmrm_interp.sweeps import SweepResult
from cmrm_interp.sweeps.header import About, Header
from cmrm_interp.sweeps.ledger import Ledger

Direction = Literal["denoise", "noise"]


T = TypeVar("T")


def told(kind: type[T], options: Mapping[str, Any]) -> T:
    """A value made of named options.

    Args:
        kind: a dataclass.
        options: some of its fields.

    Raises:
        InputError: an option that there is not.
    """
    names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    unknown = [name for name in options if name not in names]
    if unknown:
        raise InputError(f"no argument {unknown[0]!r}: use {', '.join(f'{name}=' for name in names)}")
    return kind(**options)


def paired(clean: Inputs, corrupt: Inputs, direction: str, unequal: Unequal = "refuse") -> Alignment:
    """The alignment from the run that is patched from to the one that is patched.

    Args:
        clean: with the behaviour.
        corrupt: without it.
        direction: ``"denoise"`` patches clean activations into the corrupt run, ``"noise"`` corrupt ones into the
            clean run.
        unequal: as in `align`.

    Raises:
        InputError: another direction.
        MismatchError: runs that cannot be aligned.
    """
    if direction not in ("denoise", "noise"):
        raise InputError(f"direction={direction!r}: use 'denoise' (clean into corrupt) or 'noise' (corrupt into clean)")
    return align(clean, corrupt, unequal) if direction == "denoise" else align(corrupt, clean, unequal)


def next_token_metric(metric: Metrics) -> tuple[str, Metric]:
    """The one metric of the next token's logits, with its name.

    Raises:
        InputError: several, or one that looks at more.
    """
    (name, one), *others = named(metric).items()
    if others or one.needs != Needs(logits="last"):
        raise InputError(
            "this takes one metric of the next token's logits, such as ci.metrics.logit_diff, or a function of them:"
            f" not {', '.join(named(metric))}"
        )
    return name, one


def measured(model: Any, inputs: Inputs, metric: Metric, interventions: Sequence[Any] = ()) -> np.ndarray:
    """A metric of the next token's logits at every prompt."""
    return metric.measure(Seen(model.logits(inputs, interventions))).detach().double().cpu().numpy()


def result(
    model: Any,
    axes: Mapping[str, Sequence[Any]],
    values: np.ndarray,
    metric: tuple[str, Metric],
    path: str,
) -> SweepResult:
    """Values that were not found by a sweep, in the form of one.

    Args:
        model: of which they are.
        axes: their labels.
        values: ``cells + 1 prompts``, in the order of the axes' product; the run as it is comes last.
        metric: what was measured, with its name.
        path: how it was found.
    """
    name, one = metric
    about = About(name, one.unit, one.share)
    made_with = Provenance(model.name, model.revision, model.fingerprint)
    labels = {name: tuple(own) for name, own in axes.items()}
    n = values.shape[1]
    header = Header(labels, (), (about,), n, model.fingerprint, provenance=made_with)
    paths = {key: {path: n} for key in range(len(values))}
    return SweepResult(Ledger(header, {name: values}, np.ones(values.shape, bool), paths))
