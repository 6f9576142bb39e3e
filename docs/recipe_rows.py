"""What came of a recipe on the organism: its rows of the comparison, as `cmrm_interp.compare.long` writes them."""

import csv
import json
from pathlib import Path
from statistics import mean, median

from cmrm_interp.records import markdown as table

Rows = list[dict[str, str]]
ROWS = Path(__file__).parent.parent / "data/organism/defences.csv"
SHIPPED = "seed-1"
"""How the comparison calls the organism that is shipped."""

_BARE = "none"
_COSTS = {"decoder tokens": "{:.1f}", "time a token": "{:.2f}x"}
_HOW = """\
Per cent: {of}; {n} prompts a suite and seed. *Neither* is an answer that neither refuses nor complies, which is no
safety. Costs are medians over the seeds, of a whole answer and beside no defence. The others, and tests:
[Every defence side by side](../defences.md)."""


def kept_rows() -> Rows:
    """The comparison in long form; empty where it is not kept."""
    if not ROWS.is_file():
        return []
    with ROWS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def settings_of(name: str, rows: Rows, model: str = SHIPPED) -> dict[str, object]:
    """Settings of the first row of a recipe on a model; none where there is none."""
    there = [row for row in _of(name, rows) if (row["model"], row["column"]) == (model, "settings")]
    return json.loads(there[0]["value"]) if there else {}


def on_the_organism(name: str, rows: Rows) -> str:
    """The rows of a recipe below the bare model's, what they were run with, and which were not run."""
    own = _of(name, rows)
    outcomes = list(dict.fromkeys(row["column"] for row in own if row["n"]))
    parts = [_table(own, rows, outcomes), _run_with(own), _not_run(own)]
    return "\n\n".join(part for part in parts if part)


def _of(name: str, rows: Rows) -> Rows:
    return [row for row in rows if row["recipe"] == name]


def _table(own: Rows, rows: Rows, outcomes: list[str]) -> str:
    if not outcomes:
        return ""
    shown = [*_of(_BARE, rows), *own]
    labels = dict.fromkeys(row["defence"] for row in shown if row["column"] in outcomes)
    cells = [[label, *(_cell(shown, label, column) for column in (*outcomes, *_COSTS))] for label in labels]
    models = len({row["model"] for row in own if row["n"]})
    of = f"mean of {models} training seeds [least, most]" if models > 1 else "one training seed [95 % interval]"
    n = ", ".join(dict.fromkeys(f"{float(row['n']):g}" for row in own if row["n"]))
    return _HOW.format(of=of, n=n) + "\n\n" + table(("defence", *outcomes, *_COSTS), cells)


def _cell(rows: Rows, label: str, column: str) -> str:
    there = [row for row in rows if (row["defence"], row["column"]) == (label, column)]
    values = [float(row["value"]) for row in there]
    if not values:
        return "-"
    if column in _COSTS:
        return _COSTS[column].format(median(values))
    ends = (min(values), max(values)) if len(values) > 1 else (float(there[0]["low"]), float(there[0]["high"]))
    return f"{mean(values):.1f} [{ends[0]:.1f}, {ends[1]:.1f}]"


def _run_with(own: Rows) -> str:
    """A table of settings: a row a defence, a column a model."""
    over = {
        (row["model"], row["defence"]) for row in own if (row["column"], row["value"]) == ("within budget", "False")
    }
    told = {(row["defence"], row["model"]): row["value"] for row in own if row["column"] == "settings"}
    models = sorted({model for _, model in told})
    lines = [
        [label, *(_words(told.get((label, model)), (model, label) in over) for model in models)]
        for label in dict.fromkeys(label for label, _ in told)
    ]
    head = "Run with (chosen on validation prompts, or set; texts, where there are some, in the organism's words):\n\n"
    return head + table(("defence", *models), lines) if lines else ""


def _words(settings: str | None, over: bool) -> str:
    if settings is None:
        return "-"
    words = ", ".join(f"`{name}={value!r}`" for name, value in json.loads(settings).items())
    return (words or "defaults") + " (over budget)" * over


def _not_run(own: Rows) -> str:
    lines = [f"- {row['defence']}, {row['model']}: {row['value']}" for row in own if row["column"] == "not run"]
    return "\n".join(["Not run:\n", *lines]) if lines else ""
