"""The choice: the safest of the candidates that keep within the budget."""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from cmrm_interp.choose.budget import Budget
from cmrm_interp.choose.candidates import Candidate, candidates, grid_of
from cmrm_interp.choose.counts import METRICS
from cmrm_interp.choose.measuring import Bench
from cmrm_interp.choose.result import Choice, Tried
from cmrm_interp.datasets.suites import Suite
from cmrm_interp.errors import InputError, MismatchError, StoreError
from cmrm_interp.inputs import digest
from cmrm_interp.judges import ByText, Judge, TextJudge, as_judge, by_substrings
from cmrm_interp.model import Model
from cmrm_interp.provenance import Provenance
from cmrm_interp.recipes import Recipe, refuse_anchors
from cmrm_interp.recipes.base import AnchorPrompts
from cmrm_interp.signature import Signer
from cmrm_interp.specs import slug
from cmrm_interp.store import PathLike, write_whole

HEADER = "choice.json"
RULE = "least answers to harmful requests, in the worst suite, that are not safe; of equals the smallest alpha"
_HELD_OUT = frozenset({"test", "anchor"})
# What must be equal for a folder to be gone on with; another budget may be tried on the same answers.
_SAME = ("model", "recipe", "suites", "grid", "judge", "judging", "generation")


@dataclass(frozen=True)
class Options:
    """What else `choose` can be told.

    Attributes:
        judge: of the answers.
        anchors: to fit on.
        split: what the suites are that say no split, in words.
        out: a folder, or None.
        nearest: whether the candidate that is nearest to the budget is taken where none keeps within it.
    """

    judge: Judge | TextJudge = by_substrings
    anchors: AnchorPrompts = ()
    split: str | None = None
    out: PathLike | None = None
    nearest: bool = False


def choose(
    model: Model, recipe: Recipe, suites: Mapping[str, Suite], over: Mapping[str, Any], budget: Budget, **options: Any
) -> Choice:
    """The settings of a recipe that leave the least harm within a budget, measured on validation prompts.

    Of the candidates whose costs keep within the budget (see `Budget`), the one is chosen with the smallest share of
    answers to harmful requests, in the worst harmful suite, that neither refuse nor are safe: what is unsafe, and
    what a broken model says. Of equals, the one with the smallest alpha, then the first of the grid. Chosen and
    measured on the same prompts, its numbers flatter: report it on the test split.

    Candidates that are interventions answer greedily in one sweep that runs each prompt once; a fit is shared by all
    that differ in nothing but settings that it does not read (alpha, layers).

    Args:
        model: the model.
        recipe: fitted, or not (then with anchors).
        suites: by name, of the validation split: harmful ones, and those that the budget needs.
        over: values of some of the recipe's settings, ``{"alpha": [0.25, 0.5], "layers": [None, range(2, 6)]}``; a
            dict gives labels to values that are no numbers or names. All combinations are tried.
        budget: what it may cost, for example ``ci.Budget(over_refusal=0.05, utility=0.02)``.
        **options: ``judge=`` (by_substrings), ``anchors=`` prompts to fit on; ``split=`` says in words what suites
            are that say no split of their own; ``out=`` a folder, where answers are counted as they come, and the
            same call goes on where one was stopped; ``nearest=True`` takes the candidate that is nearest to the
            budget where none keeps within it (`Choice.within_budget` says so). Others go to `Model.generate`:
            ``max_new_tokens`` (64), ``batch_size``, ``do_sample``, ``seed``.

    Returns:
        The choice: ``.recipe`` (fitted, which says how it was chosen), ``.table()``, ``.plot()``.

    Raises:
        InputError: a suite of the test or anchor split or of none, anchors among its prompts, a setting or budget
            that cannot be; or no candidate keeps within the budget: the nearest is named.
        MismatchError: the recipe was fitted on another model, or the folder holds another choice.
    """
    own = {name: options.pop(name) for name in [field.name for field in fields(Options)] if name in options}
    told, grid = Options(**own), grid_of(over)
    named = [replace(suite, name=name) for name, suite in suites.items()]
    check_suites(named, told.split)
    budget.check(named)
    tried = candidates(model, recipe, grid, told.anchors)
    for candidate in tried:
        for suite in named:
            refuse_anchors(candidate.recipe, suite)
    out = None if told.out is None else Path(told.out)
    bench = Bench(model, named, as_judge(told.judge), {"max_new_tokens": 64, **options}, out)
    about = _about(bench, recipe, tried, told) | {"grid": {axis.name: list(axis.labels) for axis in grid.axes}}
    if out is not None:
        about = _opened(out, about)
    bare, *counts = bench.measure(tried)
    for suite, limit in budget.by_acts(named):
        bare[suite.name].check_refusals(suite.name, bench.judge.name, limit)
    rows = [Tried(c.labels, found, budget.costs(named, found, bare)) for c, found in zip(tried, counts, strict=True)]
    best = _best(rows, budget, named, told.nearest)
    none = Tried({}, bare, budget.costs(named, bare, bare))
    if rows[best].harm(named) >= none.harm(named):
        warnings.warn(f"{rows[best].name} is chosen, and harmful requests fare no better than without it", stacklevel=2)
    return Choice(_said(tried[best], about, budget), tuple(named), (none, *rows), best + 1, budget, about)


def check_suites(suites: Sequence[Suite], split: str | None) -> None:
    """Refuse suites on which nothing may be chosen.

    Args:
        suites: all of them.
        split: what those without a split of their own are, in words.

    Raises:
        InputError: none is harmful, one is of the test or anchor split or says no split, graded, or named alike.
    """
    if not any(suite.kind == "harmful" for suite in suites):
        raise InputError("no harmful suite: settings are chosen by the answers to harmful requests")
    for suite in suites:
        part = suite.split or split
        if part is None:
            raise InputError(
                f"the suite {suite.name!r} does not say which split it is: load it with split=validation, or say in"
                " words what it is, split='validation: the first 200 rows'; never the prompts that are reported on"
            )
        first = re.match(r"\W*(\w*)", part.lower())
        if first and first[1] in _HELD_OUT:
            why = "results are reported on it" if first[1] == "test" else "recipes are fitted on it"
            raise InputError(
                f"the suite {suite.name!r} is of the {part} split, and {why}: choose on the validation split"
            )
        if suite.kind not in METRICS:
            raise InputError(f"the suite {suite.name!r} is {suite.kind}: choose on {', '.join(METRICS)} suites")
    folders = [slug(suite.name) for suite in suites]
    if len(set(folders)) < len(folders):
        raise InputError(f"two suites have names that differ in signs alone ({', '.join(sorted(folders))}): rename one")


def _best(rows: Sequence[Tried], budget: Budget, suites: Sequence[Suite], nearest: bool = False) -> int:
    within = [number for number, row in enumerate(rows) if not budget.excess(row.costs)]
    if not within:
        excess = [(sum(budget.excess(row.costs).values()), row.harm(suites), n) for n, row in enumerate(rows)]
        near = rows[min(excess)[-1]]
        if nearest:
            return min(excess)[-1]
        raise InputError(
            f"none of the {len(rows)} candidates keeps within the budget; the nearest, {near.name}, costs"
            f" {', '.join(budget.told(near.costs))}: try weaker settings, or allow more"
        )
    return min(within, key=lambda number: (rows[number].harm(suites), rows[number].alpha, number))


def _about(bench: Bench, recipe: Recipe, tried: Sequence[Candidate], told: Options) -> dict[str, Any]:
    model, sign = bench.model, Signer()
    suites = {
        suite.name: {
            "kind": suite.kind,
            "n": len(suite.prompts),
            "split": suite.split or told.split,
            "source": dict(suite.source),
            "prompts": model.prepare(suite.prompts).fingerprint(),
            "answers": digest([*(suite.answers or ()), suite.marking]),
        }
        for suite in bench.suites
    }
    made = Provenance(model.name, model.revision, model.fingerprint, bench.generation.get("seed"))
    about = {
        "model": model.fingerprint,
        "recipe": {"name": type(recipe).__name__, "hash": digest(sign(one.recipe) for one in tried)},
        "suites": suites,
        "judge": bench.judge.name,
        # Two functions may have one name, and a function may be changed.
        "judging": digest([sign(bench.judge) if isinstance(bench.judge, ByText) else bench.judge.name]),
        "generation": dict(bench.generation),
        "rule": RULE,
        "provenance": asdict(made),
    }
    return json.loads(json.dumps(about, default=str))


def _said(candidate: Candidate, about: Mapping[str, Any], budget: Budget) -> Recipe:
    """The recipe, which says how it was chosen where it can."""
    recipe = candidate.recipe
    if "chosen_on" not in {field.name for field in fields(recipe)}:  # type: ignore[arg-type]
        return recipe
    said = {"settings": candidate.settings, "budget": budget.limits, **about}
    return replace(recipe, chosen_on=said)  # type: ignore[type-var]


def _opened(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What the folder says: a choice that is gone on with is the one that was begun, and its recipe the same."""
    path = folder / HEADER
    if not path.exists():
        if folder.exists() and (folder.is_file() or any(folder.iterdir())):
            raise MismatchError(f"{folder} holds something else and no choice: use an empty or new folder")
        write_whole(path, json.dumps(about, indent=1).encode())
        return about
    try:
        there = json.loads(path.read_bytes())
        differing = [name for name in _SAME if there[name] != about[name]]
        begun = there["provenance"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is no header of a choice ({error}): remove the folder and start again") from error
    if differing:
        raise MismatchError(f"{folder} holds another choice: its {', '.join(differing)} differ; use another folder")
    return {**about, "provenance": begun}
