"""A comparison in long form: one row a number, small enough to be kept beside the model that it is of."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmrm_interp.compare.comparison import Comparison
from cmrm_interp.compare.result import Result
from cmrm_interp.specs import Spec
from cmrm_interp.store import write_whole

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("model", "defence", "recipe", "column", "value", "low", "high", "n")


def long_form(comparison: Comparison) -> "pd.DataFrame":
    """What `Comparison.table` shows, a row a number: with its interval, n, and the recipe that the row is of.

    Returns:
        Columns `COLUMNS`. `column` is an outcome (``unsafe: harmful, real``; per cent, Wilson's 95 % interval, n
        prompts), ``time a token`` (median ratio to the bare model, least and most round), ``decoder tokens``,
        ``settings`` (that stay and that were chosen, as JSON), ``within budget``, or ``not run`` (why).
    """
    import pandas as pd

    rows = [row for one in comparison.results for row in _told(one)]
    if comparison.ran:
        recipes = {(one.model, one.label): Spec.parse(one.spec).name for one in comparison.ran}
        rows += list(_outcomes(comparison, recipes))
    order = {(one.model, one.label): place for place, one in enumerate(comparison.results)}
    rows.sort(key=lambda row: order[row["model"], row["defence"]])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write_long(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write the long form as CSV.

    Raises:
        StoreError: it cannot be written.
    """
    write_whole(Path(path), long_form(comparison).to_csv(index=False, float_format="%.4g").encode())


def _outcomes(comparison: Comparison, recipes: dict[tuple[str, str], str]) -> Iterator[dict[str, Any]]:
    for model, defence, column, record in comparison.outcomes():
        ends = {"low": _per_cent(record.low), "high": _per_cent(record.high), "n": record.n}
        told = {"column": column, "value": 100 * record.value} | ends
        yield {"model": model, "defence": defence, "recipe": recipes[model, defence]} | told


def _told(one: Result) -> Iterator[dict[str, Any]]:
    spec = Spec.parse(one.spec)
    own = {"model": one.model, "defence": one.label, "recipe": spec.name}
    if one.why_not:
        yield own | {"column": "not run", "value": one.why_not}
    if one.cost is not None:
        ends = {"low": one.cost.ratio_low, "high": one.cost.ratio_high}
        yield own | {"column": "time a token", "value": one.cost.ratio} | ends
        yield own | {"column": "decoder tokens", "value": one.cost.decoder_tokens}
    if not one.why_not:
        yield own | {"column": "settings", "value": json.dumps({**spec.settings, **one.chosen})}
    if one.within_budget is not None:
        yield own | {"column": "within budget", "value": str(one.within_budget)}


def _per_cent(share: float | None) -> float | None:
    return None if share is None else 100 * share
