"""One contender on one model: fitted, its settings chosen, evaluated, its cost measured; each step kept."""

import hashlib
import inspect
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from cmrm_interp.arguments import check_arguments
from cmrm_interp.choose.choosing import choose
from cmrm_interp.compare.contenders import CMRM_LABEL, RANDOM, Contender, contenders
from cmrm_interp.compare.cost import cost
from cmrm_interp.compare.plan import Plan
from cmrm_interp.compare.result import LOGS, RECIPE, Result
from cmrm_interp.errors import CmrmError, InputError, MismatchError, StoreError
from cmrm_interp.evaluation.contenders import config_of, contenders_of
from cmrm_interp.evaluation.defences import defence
from cmrm_interp.evaluation.failures import say_failures
from cmrm_interp.evaluation.running import run
from cmrm_interp.judges import as_judge
from cmrm_interp.model import Model
from cmrm_interp.organism.defended import is_organism
from cmrm_interp.recipes import CMRM, OtherModel, Recipe, refuse_anchors
from cmrm_interp.reports.report import Report
from cmrm_interp.specs import Spec, slug
from cmrm_interp.store import write_whole

# What a method may meet on a model that it was not made for, and what mistakes in a recipe end in; it is the method's
# row, and the others go on. Errors of the disk are nobody's row.
MISTAKES = (LookupError, TypeError, AttributeError, AssertionError)
FAILS = (CmrmError, RuntimeError, ValueError, ArithmeticError, MemoryError, *MISTAKES)
TRACE = "error.txt"
"""Where in its row's folder an error that is not this package's own is told whole."""


@dataclass(frozen=True, eq=False)
class Bench:
    """A model that contenders are measured on.

    Attributes:
        model: the model.
        label: as tables call it.
        plan: what is alike for all.
        out: folder of the comparison.
    """

    model: Model
    label: str
    plan: Plan
    out: Path

    def folder(self, contender: Contender) -> Path:
        """Where a contender's choice, logs and result are."""
        return folder_of(self.out, self.label, contender)


def folder_of(out: Path, model: str, contender: Contender) -> Path:
    """Where what came of a contender on a model is kept."""
    return out / slug(model) / slug(contender.label)


def known(out: Path, model: str, contender: Contender) -> Result | None:
    """What was found before of a contender on a model; None where it was not, or was not run.

    Raises:
        MismatchError: its folder holds a recipe with other settings under that label.
    """
    folder = folder_of(out, model, contender)
    found = Result.load(folder)
    if found is not None and found.spec != contender.spec:
        raise MismatchError(
            f"{folder} holds {found.spec} and not {contender.spec}: give it another label (LABEL={contender.spec}), or"
            " delete the folder"
        )
    if found is None or found.why_not:
        return None
    if found.source != source_of(contender):
        warnings.warn(
            f"{model}, {contender.label}: its numbers are of the recipe's code as it was then, which is another now;"
            f" delete {folder} to measure it anew",
            stacklevel=2,
        )
    return found


def measure(bench: Bench, contender: Contender) -> Result:
    """What comes of a contender; what is kept of it already is not done again.

    Other processes may measure other contenders, or this one, which is waited for.

    Args:
        bench: the model and what is alike for all.
        contender: who is measured.

    Raises:
        StoreError: the disk is full, or what is kept cannot be read.
        MismatchError: the folder holds another recipe under this label.
        KeyboardInterrupt: the same call goes on with it.
    """
    folder = bench.folder(contender)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        found = known(bench.out, bench.label, contender)
        if found is None:
            found = _tried(bench, contender, folder)
            found.save(folder)
    return found


def _tried(bench: Bench, contender: Contender, folder: Path) -> Result:
    begun = Result(bench.label, contender.label, contender.spec, source=source_of(contender))
    try:
        return _measured(bench, contender, folder, begun)
    except StoreError:
        raise
    except FAILS as error:
        said = " ".join(str(error).split())
        if isinstance(error, CmrmError):
            return replace(begun, why_not=said)
        write_whole(folder / TRACE, traceback.format_exc().encode())
        return replace(begun, why_not=f"{type(error).__name__}: {said}")


def _measured(bench: Bench, contender: Contender, folder: Path, begun: Result) -> Result:
    recipe, found = _chosen(bench, contender, folder, begun)
    try:
        if recipe is not None and recipe.savable:
            recipe.save(folder / RECIPE)
        _evaluate(bench, contender.label, recipe, folder / LOGS)
        return replace(found, cost=cost(bench.model, recipe, bench.plan.timed, bench.plan.generation))
    finally:
        if isinstance(recipe, OtherModel):
            recipe.other.close()


def _chosen(bench: Bench, contender: Contender, folder: Path, begun: Result) -> tuple[Recipe | None, Result]:
    """The fitted recipe with its chosen settings, and what is known of the choice."""
    model, plan = bench.model, bench.plan
    if contender.kind is None:
        recipe, seconds = _timed(lambda: _control(bench, contender))
        return recipe, replace(begun, fit_seconds=seconds)
    bare = contender.recipe(is_organism(model.name))
    anchors = () if bare.card is not None and bare.card.wants == "none" else plan.anchors
    over = {name: values for name, values in bare.grid(model).items() if name not in contender.settings}
    # What the grid leaves no choice of may be what makes a fit possible at all.
    settled = replace(bare, **{name: values[0] for name, values in over.items() if len(values) == 1})
    fitted, seconds = _timed(lambda: settled.fit(model, anchors))
    if not over:
        return fitted, replace(begun, fit_seconds=seconds)
    again = anchors if over.keys() - bare.applied else ()
    told: dict[str, Any] = {"judge": plan.judge, "split": plan.split, "anchors": again, "out": folder / "choice"}
    choice, spent = _timed(
        lambda: choose(model, fitted, plan.validation, over, plan.budget, nearest=True, **told, **plan.generation)
    )
    write_whole(folder / "choice.csv", choice.table(intervals=False).to_csv().encode())
    return choice.recipe, replace(
        begun,
        chosen=choice.settings,
        candidates=len(choice.tried) - 1,
        within_budget=choice.within_budget,
        fit_seconds=seconds,
        choose_seconds=spent,
    )


def _control(bench: Bench, contender: Contender) -> Recipe | None:
    if contender.name != RANDOM:
        return defence(Spec(contender.name, contender.settings), bench.model, bench.plan.anchors)
    check_arguments(RANDOM, contender.settings, ("seed",))
    cmrm = next(one for one in contenders() if one.label == CMRM_LABEL)
    found = measure(bench, cmrm)
    if found.why_not:
        raise InputError(f"its norms are those of {cmrm.label}, which was not run: {found.why_not}")
    return CMRM.load(bench.folder(cmrm) / RECIPE).randomised(int(contender.settings.get("seed", 0)))


def _evaluate(bench: Bench, label: str, recipe: Recipe | None, logs: Path) -> None:
    plan = bench.plan
    for suite in plan.test.values():
        refuse_anchors(recipe, suite)
    config, rows = config_of(plan.generation)
    asked = contenders_of(bench.model, {label: recipe}, logs, rows, bench.label)
    try:
        run(asked, plan.test, [as_judge(plan.judge)], logs, config)
    finally:
        for one in asked:
            one.model.api.close()  # pyright: ignore[reportAttributeAccessIssue]
    say_failures(Report.of(logs).answers)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def source_of(contender: Contender) -> str:
    """Hash of the source of a contender's recipe; "" where it has none, or is no file's."""
    if contender.kind is None:
        return ""
    try:
        module = inspect.getmodule(contender.kind)
        return hashlib.sha256(inspect.getsource(module or contender.kind).encode()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""
