"""The metrics of a gap: what is computed, what it is tested against, how it is called on an axis."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from cmrm_interp.errors import InputError
from cmrm_interp.gap.cka import cka, cka_debiased
from cmrm_interp.gap.classifier import classifier_accuracy
from cmrm_interp.gap.cosine import cosine, paired_cosine
from cmrm_interp.gap.draws import Draws, Null, Side
from cmrm_interp.gap.mahalanobis import mahalanobis
from cmrm_interp.gap.mmd import mmd2
from cmrm_interp.gap.overlap import cosine_with, share_in
from cmrm_interp.gap.shift import shift_agreement, shift_mean_share, shift_participation_ratio, shift_relative_norm
from cmrm_interp.gap.silhouette import silhouette


@dataclass(frozen=True)
class Metric:
    """A number that two conditions have at a hook point.

    Attributes:
        name: in tables.
        compute: from states of two conditions and draws to one value a draw.
        label: on an axis, with its unit.
        null: what it is tested against; None where there is no test.
        side: which values are extreme.
        bounds: values that there can be; intervals end there.
    """

    name: str
    compute: Callable[[np.ndarray, np.ndarray, Draws], np.ndarray]
    label: str
    null: Null | None = "swapped labels"
    side: Side = "greater"
    bounds: tuple[float, float] = (-1.0, 1.0)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("cosine", cosine, "cosine of the means", side="less"),
        Metric("paired_cosine", paired_cosine, "cosine of a prompt's two states", None),
        Metric("mahalanobis", mahalanobis, "Mahalanobis distance (SD)", bounds=(0.0, np.inf)),
        Metric("mmd2", mmd2, "MMD² (RBF, median bandwidth)", bounds=(-np.inf, 2.0)),
        Metric("cka", cka, "linear CKA", "shuffled pairs", bounds=(0.0, 1.0)),
        Metric("cka_debiased", cka_debiased, "linear CKA, debiased", "shuffled pairs"),
        Metric("silhouette", silhouette, "silhouette"),
        Metric("classifier_accuracy", classifier_accuracy, "accuracy on held-out prompts", bounds=(0.0, 1.0)),
        Metric("shift_agreement", shift_agreement, "cosine between two prompts' shifts"),
        Metric("shift_mean_share", shift_mean_share, "share of the shift in its mean"),
        Metric(
            "shift_participation_ratio",
            shift_participation_ratio,
            "effective rank of the shifts",
            None,
            bounds=(1.0, np.inf),
        ),
        Metric("shift_relative_norm", shift_relative_norm, "norm of the mean shift / of a state", bounds=(0.0, np.inf)),
    )
}
"""Metrics by name."""


def chosen(names: Iterable[str] | None) -> list[Metric]:
    """Metrics by name, or all.

    Raises:
        InputError: there is no such metric, or none was asked for.
    """
    if names is None:
        return list(METRICS.values())
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in METRICS:
            raise InputError(f"no metric {name!r}: there are {', '.join(METRICS)}")
    return [METRICS[name] for name in names]


def overlaps(name: str, basis: np.ndarray) -> list[Metric]:
    """Metrics of the overlap with a direction, or with a subspace, which has no cosine.

    Args:
        name: what the direction is called.
        basis: orthonormal rows.
    """
    share = partial(_share_in, basis)
    metrics = [
        Metric(f"share in {name}", share, f"share of the shift along {name}", "random halves", bounds=(0.0, 1.0))
    ]
    if len(basis) == 1:
        along = partial(_cosine_with, basis)
        metrics.insert(
            0, Metric(f"cosine with {name}", along, f"cosine of shift and {name}", "random halves", "two-sided")
        )
    return metrics


def _cosine_with(basis: np.ndarray, x: np.ndarray, y: np.ndarray, draws: Draws) -> np.ndarray:
    return cosine_with(x, y, basis, draws)


def _share_in(basis: np.ndarray, x: np.ndarray, y: np.ndarray, draws: Draws) -> np.ndarray:
    return share_in(x, y, basis, draws)
