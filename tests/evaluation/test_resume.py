"""Runs that are killed or interrupted: the same call goes on with them, and nothing is lost or done twice."""

import errno
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

import cmrm_interp as ci
from cmrm_interp.datasets.suites import Suite
from cmrm_interp.errors import StoreError
from cmrm_interp.evaluation import evaluate
from cmrm_interp.families import tiny
from cmrm_interp.judges import by_form
from cmrm_interp.prompts import Prompt
from cmrm_interp.reports.logs import answered
from tests.evaluation.scripted import ASKED, CAPTION, REFUSAL, STEPS, Scripted

ROWS, BATCH = 120, 4


def suite():
    return Suite("s", "harmful", tuple(Prompt(f"what is this ? {row}") for row in range(ROWS)))


def run(model, folder: Path, asked: Path):
    # The name of a file is no setting of an evaluation.
    os.environ[ASKED] = str(asked)
    recipe = Scripted((STEPS, REFUSAL, CAPTION), model=model.fingerprint, pause=0.1)
    return evaluate(model, {"d": recipe}, {"s": suite()}, by_form, out=folder, batch_size=BATCH)


def _child(folder: Path, asked: Path) -> None:
    run(ci.load(tiny("llava")), folder, asked)


@pytest.fixture(scope="module")
def processes():
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["cmrm_interp.evaluation.running", "cmrm_interp.evaluation.contenders"])
    return made


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv(ASKED, "")


@pytest.fixture(scope="module")
def model():
    return ci.load(tiny("llava"))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def in_log(folder: Path, being_written: bool = False) -> set[str]:
    """Prompts that the logs of a folder hold, as Inspect alone reads them; none of a log that is just being written."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    try:
        logs = [read_eval_log(info) for info in list_eval_logs(str(folder))]
    except ValueError:  # the end of the archive is not there yet
        if being_written:
            return set()
        raise
    return {sample.input[0].text for log in logs for sample in log.samples or []}


def test_killed_runs_go_on_where_they_were_and_end_with_the_same_records(model, processes, tmp_path):
    whole = run(model, tmp_path / "whole", tmp_path / "asked once")
    folder, asked, draw = tmp_path / "cut", tmp_path / "asked", random.Random(0)
    saved: set[str] = set()
    for kill in range(3):
        before, until = len(lines(asked)), draw.randint(8, 30)
        child = processes.Process(target=_child, args=(folder, asked))
        child.start()
        while len(lines(asked)) < before + until or (kill == 2 and not in_log(folder, being_written=True)):
            assert child.is_alive(), "the run ended before it was killed"
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        again = lines(asked)[before:]
        assert not saved & set(again), f"kill {kill}: what was in the log was asked again"
        saved = in_log(folder)
    before = len(lines(asked))
    report = run(model, folder, asked)
    assert len(lines(asked)) - before == ROWS - len(saved)
    assert saved, "nothing was in the logs at the last kill: the test shows nothing"
    parts = [[(a.id, a.request, a.answer, a.judgements, a.error) for a in r.answers] for r in (whole, report)]
    assert parts[0] == parts[1]
    assert len(parts[1]) == ROWS


def test_ctrl_c_ends_a_run_cleanly_and_it_goes_on(model, tmp_path):
    folder, asked = tmp_path / "x", tmp_path / "asked"
    threading.Timer(0.1, _interrupt_once, args=(asked, 40)).start()
    with pytest.raises(KeyboardInterrupt):
        run(model, folder, asked)
    from inspect_ai.log import list_eval_logs, read_eval_log

    (info,) = list_eval_logs(str(folder))
    log = read_eval_log(info)
    assert log.status == "cancelled"
    assert 20 <= len(log.samples) < ROWS
    with pytest.raises(StoreError, match=r"incomplete .*cancelled.*run the same"):
        answered(folder)
    before = len(lines(asked))
    assert len(run(model, folder, asked).answers) == ROWS
    assert len(lines(asked)) - before == ROWS - len([one for one in log.samples if one.error is None])


def _interrupt_once(asked: Path, until: int) -> None:
    while len(lines(asked)) < until:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_full_disk_is_said_and_the_run_goes_on_once_there_is_room(model, tmp_path, monkeypatch):
    from inspect_ai.log._recorders import eval as recorder

    copy, written = recorder._copy_temp_to_local, []

    def full(temporary, to, fsync):
        written.append(to)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device", to)
        copy(temporary, to, fsync)

    monkeypatch.setattr(recorder, "_copy_temp_to_local", full)
    with pytest.raises(StoreError, match=r"x was not written .*No space left on device.*free space.*goes on"):
        run(model, tmp_path / "x", tmp_path / "asked")
    monkeypatch.undo()
    saved = in_log(tmp_path / "x")
    assert 0 < len(saved) < ROWS
    assert len(run(model, tmp_path / "x", tmp_path / "again").answers) == ROWS
    assert not saved & set(lines(tmp_path / "again"))
    assert len(list((tmp_path / "x").glob("*.eval"))) == 1
