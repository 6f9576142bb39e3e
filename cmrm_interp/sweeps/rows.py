"""Rows of a sweep's table, and its records."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from cmrm_interp.records import Record, Scalar
from cmrm_interp.sweeps.header import About, Header
from cmrm_interp.sweeps.ledger import Ledger
from cmrm_interp.sweeps.statistics import intervals

if TYPE_CHECKING:
    import pandas as pd


def labels_of(header: Header) -> list[dict[str, Scalar]]:
    """Conditions of every run by key: cells in the order of the grid, then the clean runs."""
    cells = [dict(zip(header.axes, place, strict=True)) for place in product(*header.axes.values())]
    shared = {name: header.axes[name] for name in header.axes if name in header.input_axes}
    clean = [dict(zip(shared, place, strict=True)) for place in product(*shared.values())]
    return [*cells, *({**labels, "intervention": "none"} for labels in clean)]


def rows(ledger: Ledger, about: About) -> "pd.DataFrame":
    """The table of one metric, one row a cell."""
    import pandas as pd

    header, values = ledger.header, ledger.values[about.name]
    n_cells = prod(header.shape)
    clean = clean_of(header, values).mean(-1)
    low, high = intervals(values[:n_cells], about.share)
    labels = labels_of(header)[:n_cells]
    # Left to itself pandas makes a NaN of None.
    kinds = {name: object if None in values else None for name, values in header.axes.items()}
    frame = pd.DataFrame({name: pd.Series([one[name] for one in labels], dtype=kinds[name]) for name in kinds})
    means = values[:n_cells].mean(-1)
    columns = {
        "metric": about.name,
        "value": means,
        "low": low,
        "high": high,
        "n": header.prompts,
        "clean": clean,
        "change": means - clean,
    }
    return frame.assign(**columns, path=paths_of(ledger))


def clean_of(header: Header, values: np.ndarray) -> np.ndarray:
    """The clean model's value beside that of each cell, ``cells prompts``."""
    n_cells, n = prod(header.shape), values.shape[-1]
    clean = values[n_cells:].reshape(*header.clean_shape, n)
    return np.broadcast_to(clean, (*header.shape, n)).reshape(n_cells, n)


def paths_of(ledger: Ledger) -> list[str]:
    """How each cell was run; ways are joined with a plus sign where batches differ."""
    return ["+".join(sorted(ledger.paths[key])) for key in range(prod(ledger.header.shape))]


def records(ledger: Ledger, keys: Sequence[int]) -> Iterator[Record]:
    """Records of some finished runs, one a metric."""
    header, labels = ledger.header, labels_of(ledger.header)
    for about in header.metrics:
        values = ledger.values[about.name][list(keys)]
        low, high = intervals(values, about.share)
        for key, row, a, b in zip(keys, values, low, high, strict=True):
            ends = (None, None) if np.isnan(a) else (float(a), float(b))
            yield Record(labels[key], about.name, float(row.mean()), header.prompts, *ends, header.provenance)
