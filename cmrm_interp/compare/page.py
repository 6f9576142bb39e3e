"""The page of a comparison: tables and figure are written anew, what was written by hand between marks is kept."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmrm_interp import plots
from cmrm_interp.compare.cards import markdown as cards
from cmrm_interp.compare.comparison import BASELINES, COSTS, Comparison, tests_file
from cmrm_interp.compare.contenders import BARE, CMRM_LABEL
from cmrm_interp.errors import InputError
from cmrm_interp.reports.notes import notes
from cmrm_interp.reports.wide import MISSING
from cmrm_interp.reports.writing import to_markdown
from cmrm_interp.store import write_whole

if TYPE_CHECKING:
    import pandas as pd

FIGURE = "defences.png"
ALPHA = 0.05
_MARK = "<!-- by hand:"
# Folders of a path; the last part of it says enough on a page.
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/'\"]+/)+")
_KEPT = re.compile(r"<!-- by hand: (\S+) -->\n(.*?)\n?<!-- end -->", re.DOTALL)

PAGE = """\
# Every defence side by side

`cmrm compare` makes this page: every recipe of the package is fitted on the same anchors, the settings of its grid are
chosen on the same validation prompts under one budget ({budget}), and what was
chosen answers the same test prompts, judged by {judge}. Where no candidate kept within the budget, the nearest was
taken, and the row says *over budget*; one that could not be run on every model says on how many.
A recipe that does not help here is shown as it is. How to add one:
[Adding a recipe](add-a-recipe.md).

{learnt}

## {over}

Per cent: {how}.

{pooled}

![Unsafe answers against utility]({figure})

*Unsafe answers to harmful requests (mean over suites) against utility; bars are 95 % intervals, the line joins the
defences that no other one beats at both.*

## What it costs

{costs}

*Time a token*: seconds a new token beside the model without the defence, measured in turns in one process, median over
rounds and models [least, most]. *Decoder tokens*: positions that go through the decoder for one answer, prompt and
every pass included; this number is the same on every machine. *Held*: tensors of the fitted recipe, other models'
weights included. *Extra*: most memory while a batch of eight is answered, above the model without the defence
({memory}). *Fit* and *choose* are wall-clock seconds, the latter of all candidates. Over several models each number is
their median.

{cost_words}

## Tests

In how many of {models} models a rate differs on the same prompts (McNemar's exact test, p < {alpha} after Holm's
correction for all tests against that row); a dash: in none. All of them, with intervals, are in {files}
of the report.

### Against {bare}

{against_bare}

### Against {cmrm}

{against_cmrm}

## Each model

{notes}

{each}

## What was chosen

{chosen}

## What was not run

{not_run}

## The recipes

{cards}
{last}
"""
HANDS = ("learnt", "cost_words", "last")


def write_page(comparison: Comparison, path: Path) -> None:
    """Write page and figure; parts between ``<!-- by hand: NAME -->`` and ``<!-- end -->`` stay as they are.

    Args:
        comparison: all that is shown.
        path: of the page; the figure goes into ``figures`` beside it.

    Raises:
        StoreError: it cannot be written.
        InputError: nothing was run, or a part by hand has no end or a name that there is not, and would be lost.
    """
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    kept = {name: text.strip() for name, text in _KEPT.findall(there)}
    if len(kept) < there.count(_MARK) or not kept.keys() <= set(HANDS):
        raise InputError(
            f"{path} would lose what was written by hand: its parts are {', '.join(HANDS)}, each once, from"
            f" '{_MARK} NAME -->' on a line of its own to '<!-- end -->'"
        )
    plots.save(comparison.plot(), path.parent / "figures" / FIGURE)
    write_whole(path, page(comparison, kept).encode())


def page(comparison: Comparison, by_hand: Mapping[str, str] | None = None) -> str:
    """The page as Markdown.

    Args:
        comparison: all that is shown.
        by_hand: parts that were written by hand, by name.
    """
    models = list(dict.fromkeys(one.model for one in comparison.results))
    several = len({one.model for one in comparison.ran}) > 1
    plan = comparison.plan
    memory = {one.cost.how for one in comparison.ran if one.cost}
    return (
        PAGE.format(
            budget=", ".join(
                f"{name.replace('_', '-')} {100 * limit:g} points" for name, limit in plan["budget"].items()
            ),
            judge=plan["judge"],
            over=f"Over {len(models)} models" if several else "The table",
            how="the mean of the models, and in brackets the least and the most of them"
            if several
            else "95 % intervals",
            pooled=to_markdown(pooled(comparison) if several else rates(comparison)),
            figure=f"figures/{FIGURE}",
            costs=to_markdown(cost_table(comparison)),
            memory="; ".join(sorted(memory)),
            models=len(models),
            alpha=ALPHA,
            files=" and ".join(f"`{tests_file(baseline)}`" for baseline in BASELINES),
            bare=BARE,
            cmrm=CMRM_LABEL,
            against_bare=_against(comparison, BARE),
            against_cmrm=_against(comparison, CMRM_LABEL),
            notes="\n\n".join(notes(comparison.report.outcomes, comparison.report.answers)),
            each=to_markdown(rates(comparison)),
            chosen=to_markdown(chosen(comparison)),
            not_run=_not_run(comparison),
            cards=cards(),
            **{name: _by_hand(name, by_hand or {}) for name in HANDS},
        ).rstrip()
        + "\n"
    )


def rates(comparison: Comparison) -> "pd.DataFrame":
    """Outcomes of every row that was run, with Wilson intervals, and whether it is beyond the budget."""
    table = comparison.table()
    outcomes = [name for name in table.columns if name not in (*COSTS, "chosen", "not run")]
    kept = table.loc[table["not run"] == "", outcomes]
    over = {(one.model, one.label) for one in comparison.ran if one.within_budget is False}
    kept.index = kept.index.map(lambda row: (row[0], f"{row[1]} (over budget)") if row in over else row)
    return kept


def pooled(comparison: Comparison) -> "pd.DataFrame":
    """Mean over models, least and most, a row a defence."""
    found = comparison.report.pooled()
    told = [pair in comparison.told for pair in zip(found["suite"], found["metric"], strict=True)]
    rows = found[told].assign(
        column=lambda frame: frame["metric"] + ": " + frame["suite"],
        cell=lambda frame: [_spread(*row) for row in frame[["value", "least", "most"]].to_numpy(float)],
    )
    wide = rows.pivot(index="defence", columns="column", values="cell")
    wanted = [label for label in _labels(comparison) if label in wide.index]
    table = wide.loc[wanted, list(dict.fromkeys(rows["column"]))].fillna(MISSING)
    table.index = [_noted(label, comparison) for label in table.index]
    return table.rename_axis("defence")


def cost_table(comparison: Comparison) -> "pd.DataFrame":
    """Costs of each defence: medians over models, the ratio of times with its least and most round."""
    import pandas as pd

    frame = comparison.costs().reset_index()
    there = set(frame["defence"])
    cells = {label: _cost_row(frame[frame["defence"] == label]) for label in _labels(comparison) if label in there}
    return pd.DataFrame.from_dict(cells, orient="index").rename_axis("defence")


def tests(comparison: Comparison, baseline: str) -> "pd.DataFrame":
    """In how many models each rate is lower or higher than under the baseline, a row a defence."""
    import pandas as pd

    found = comparison.tests(baseline)
    told = [pair in comparison.told for pair in zip(found["suite"], found["metric"], strict=True)]
    rows: dict[str, dict[str, str]] = {}
    grouped: Any = found[told].groupby(["a", "suite", "metric"], sort=False)
    for (label, suite, metric), group in grouped:
        sure = group.loc[group["p_holm"] < ALPHA, "difference"].tolist()
        lower, higher = sum(one < 0 for one in sure), sum(one > 0 for one in sure)
        words = [f"lower in {lower}"] * bool(lower) + [f"higher in {higher}"] * bool(higher)
        rows.setdefault(str(label), {})[f"{metric}: {suite}"] = ", ".join(words) or MISSING
    ordered = {label: rows[label] for label in _labels(comparison) if label in rows}
    return pd.DataFrame.from_dict(ordered, orient="index").fillna(MISSING).rename_axis("defence")


def chosen(comparison: Comparison) -> "pd.DataFrame":
    """What was chosen for each model, a row a defence that had something to choose."""
    import pandas as pd

    rows: dict[str, dict[str, str]] = {}
    for one in comparison.ran:
        if one.within_budget is not None:
            rows.setdefault(one.label, {})[one.model] = f"{one.settings}, of {one.candidates}"
    ordered = {label: rows[label] for label in _labels(comparison) if label in rows}
    return pd.DataFrame.from_dict(ordered, orient="index").fillna(MISSING).rename_axis("defence")


def _labels(comparison: Comparison) -> list[str]:
    from cmrm_interp.compare.contenders import order

    return sorted(dict.fromkeys(one.label for one in comparison.results), key=order)


def _noted(label: str, comparison: Comparison) -> str:
    """A label, with on how many models it was run if not on all, and on how many it is beyond the budget."""
    own = [one for one in comparison.ran if one.label == label]
    models, over = len({one.model for one in comparison.results}), sum(one.within_budget is False for one in own)
    notes = [f"{len(own)} of {models} models"] if len(own) < models else []
    notes += [] if not over else ["over budget" if over == len(own) else f"over budget on {over}"]
    return f"{label} ({', '.join(notes)})" if notes else label


def _spread(mean: float, least: float, most: float) -> str:
    return f"{100 * mean:.1f} [{100 * least:.1f}, {100 * most:.1f}]"


def _cost_row(rows: Any) -> dict[str, str]:
    middle = rows.median(numeric_only=True).to_dict()
    words = (
        f"{middle['ratio']:.2f}x [{rows['ratio_low'].min():.2f}, {rows['ratio_high'].max():.2f}]",
        f"{middle['decoder_tokens']:.1f}",
        f"{middle['new_tokens']:.1f}",
        f"{middle['held_bytes'] / 1024:.1f}",
        f"{middle['extra_bytes'] / 1024:.0f}",
        f"{middle['fit_seconds']:.1f}",
        f"{middle['choose_seconds']:.0f}",
    )
    return dict(zip(COSTS, words, strict=True))


def _against(comparison: Comparison, baseline: str) -> str:
    if not any(one.label == baseline for one in comparison.ran):
        return f"{baseline} was not run."
    found = tests(comparison, baseline)
    return to_markdown(found) if len(found) else f"Nothing was run beside {baseline}."


def _not_run(comparison: Comparison) -> str:
    rows = [
        f"- **{one.label}** on {one.model}: {_FOLDERS.sub('', one.why_not)}"
        for one in comparison.results
        if one.why_not
    ]
    return "\n".join(rows) or "Everything was run."


def _by_hand(name: str, parts: Mapping[str, str]) -> str:
    return f"<!-- by hand: {name} -->\n{parts.get(name, '')}\n<!-- end -->"
