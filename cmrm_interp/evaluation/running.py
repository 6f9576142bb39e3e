"""Running: models under defences on suites, as one set of Inspect that is taken up again where it was stopped."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from inspect_ai import Task, eval_set
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.dataset import Dataset, MemoryDataset
from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample_summaries
from inspect_ai.model import GenerateConfig
from inspect_ai.model import Model as InspectModel
from inspect_ai.scorer import Scorer

from cmrm_interp.arguments import check_choice
from cmrm_interp.datasets.suites import Suite
from cmrm_interp.errors import InputError, MismatchError, StoreError
from cmrm_interp.evaluation import clean, scorers
from cmrm_interp.evaluation.folders import claim, locked
from cmrm_interp.evaluation.provider import CmrmAPI
from cmrm_interp.evaluation.samples import dataset_of
from cmrm_interp.evaluation.tasks import task_of
from cmrm_interp.evaluation.watching import ALONE, quiet, watched
from cmrm_interp.judges import ByText, Judge
from cmrm_interp.reports.log_files import UNREADABLE
from cmrm_interp.signature import Signer

MEASURES: Mapping[str, Callable[[], Scorer]] = MappingProxyType({"fluency": clean.fluency})
"""Scorers of what else is measured of an answer, by name."""

FLUSHES = 100
"""How often a log is written while its samples are answered: each time it is written whole."""


@dataclass(frozen=True)
class Contender:
    """A model under a defence.

    Attributes:
        checkpoint: the model, as tables call it.
        defence: as tables call it.
        model: as Inspect has it, with the provider of this package.
    """

    checkpoint: str
    defence: str
    model: InspectModel

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """What decides its answers, as JSON."""
        return cast(CmrmAPI, self.model.api).about()


def run(
    contenders: Sequence[Contender],
    suites: Mapping[str, Suite],
    judges: Sequence[Judge],
    folder: Path,
    generation: GenerateConfig,
    measures: Sequence[str] = (),
) -> None:
    """Every contender on every suite, judged, into logs of a folder; what is there already is not done again.

    Args:
        contenders: who answers.
        suites: by name.
        judges: each says a verdict on each answer.
        folder: of the logs.
        generation: settings of all answers.
        measures: what else is measured of each answer: names of `MEASURES`.

    Raises:
        InputError: nobody answers, nothing is asked, or a measure that there is not.
        MismatchError: the folder holds another evaluation.
        StoreError: the folder cannot be written.
        KeyboardInterrupt: it was interrupted; the same call goes on with it.
    """
    _check(contenders, suites, judges)
    for name in measures:
        check_choice("measure", name, MEASURES)
    with ALONE, scorers.present(judges):
        # Pictures are held as text, once for all who are asked about them.
        asked = [(suite, dataset_of(suite)) for suite in _named(suites)]
        cells = enumerate((one, *what) for one in contenders for what in asked)
        tasks = [_task(*cell, _scoring(judges, measures), place) for place, cell in cells]
        claim(folder, _settings(contenders, tasks, judges, generation) | _measured(measures))
        total = sum(len(cast(Dataset, task.dataset)) for task in tasks)
        with locked(folder):
            watched(lambda: _evaluate(tasks, folder, generation), total, _finished(folder))


def _check(contenders: Sequence[Contender], suites: Mapping[str, Suite], judges: Sequence[Judge]) -> None:
    if not contenders or not suites:
        raise InputError("nothing to evaluate: give at least one defence (None for the bare model) and one suite")
    names = [one.name for one in judges]
    if len(set(names)) < len(names) or not names:
        raise InputError(f"judges {names}: give at least one, and each once (they are told apart by their names)")
    labels = [(one.checkpoint, one.defence) for one in contenders]
    if len(set(labels)) < len(labels):
        raise InputError(f"the same name twice among {labels}: give each model and defence a label of its own")


def _named(suites: Mapping[str, Suite]) -> Iterator[Suite]:
    for name, suite in suites.items():
        yield suite if suite.name == name else replace(suite, name=name)


def _scoring(judges: Sequence[Judge], measures: Sequence[str]) -> list[Scorer]:
    return [*(scorers.judge(judge.name) for judge in judges), *(MEASURES[name]() for name in measures)]


def _measured(measures: Sequence[str]) -> dict[str, Any]:
    return {"measures": sorted(measures)} if measures else {}


def _task(one: Contender, suite: Suite, dataset: MemoryDataset, scoring: Sequence[Scorer], place: int) -> Task:
    task = task_of(suite, scoring, dataset)
    task.model = one.model
    # Inspect tells the tasks of a set apart by name, version and the model's arguments.
    task.version = f"{task.version} {one.checkpoint} {one.defence}"
    task.metadata = {
        **(task.metadata or {}),
        "checkpoint": one.checkpoint,
        "defence": one.defence,
        "model": one.about,
        "place": place,
    }
    return task


def _settings(
    contenders: Sequence[Contender], tasks: Sequence[Task], judges: Sequence[Judge], generation: GenerateConfig
) -> dict[str, Any]:
    return {
        "models": {f"{one.checkpoint}, {one.defence}": one.about for one in contenders},
        "suites": {(task.metadata or {})["suite"]["name"]: str(task.version).split()[0] for task in tasks},
        "judges": [judge.name for judge in judges],
        "judges' code": {judge.name: _code(judge) for judge in judges if isinstance(judge, ByText)},
        "generation": generation.model_dump(exclude_none=True),
    }


def _code(judge: ByText) -> str:
    """What a judge's function does; what is wrapped around it (checks of types, say) may differ between processes."""
    return Signer()(inspect.unwrap(judge.function))


def _finished(folder: Path) -> int:
    """Samples that the logs of a folder hold, of each task the most."""
    counts: dict[str, int] = {}
    for info in list_eval_logs(str(folder)):
        try:
            found = sum(one.completed and one.error is None for one in read_eval_log_sample_summaries(info))
        except UNREADABLE as error:
            name = info.name.removeprefix("file://")
            raise StoreError(f"{name} is damaged ({error}): delete it, and what it held is asked again") from error
        counts[info.task_id] = max(found, counts.get(info.task_id, 0))
    return sum(counts.values())


def _evaluate(tasks: Sequence[Task], folder: Path, generation: GenerateConfig) -> None:
    most = max(len(cast(Dataset, task.dataset)) for task in tasks)
    with quiet():
        try:
            _, logs = eval_set(
                list(tasks),
                log_dir=str(folder),
                model=None,
                retry_attempts=1,
                retry_immediate=False,
                # A sample that fails is written as such, and the others go on.
                fail_on_error=False,
                max_tasks=1,
                # The other displays draw on the terminal, or in the notebook.
                display="log",
                log_level="error",
                # No copy of every event in a database beside the log: what a kill costs are the samples since the
                # log was last written.
                log_realtime=False,
                log_buffer=max(10, most // FLUSHES),
                log_model_api=False,
                score_display=False,
                ctl_server=False,
                **generation.model_dump(exclude_none=True),
            )
        except PrerequisiteError as error:
            raise MismatchError(
                f"{folder} holds logs of other tasks, or was moved (logs know recipes by their path): choose another"
                " folder, or move it back"
            ) from error
        except OSError as error:
            raise StoreError(_unwritten(folder, str(error))) from error
    for log in logs:
        if log.status != "success":
            raise StoreError(_unwritten(folder, log.error.message if log.error else log.status))
    _sweep(folder)


def _unwritten(folder: Path, why: str) -> str:
    return f"{folder} was not written ({why}): free space there; the same call goes on with what is there"


def _sweep(folder: Path) -> None:
    """Take away logs that stopped half-way, whose answers are in a later one that was finished."""
    logs = [(Path(info.name.removeprefix("file://")), info.task_id) for info in list_eval_logs(str(folder))]
    done = {task: file for file, task in logs if read_eval_log(file, header_only=True).status == "success"}
    for file, task in logs:
        if task in done and file.name < done[task].name:
            file.unlink()
