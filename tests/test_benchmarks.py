"""The benchmarks run on a tiny model: outputs agree, the table has its rows, a library that differs is refused."""

import json
import math

import pytest
import torch

from benchmarks import importing, report, results, sides
from benchmarks.cases import Plan, load
from benchmarks.comparison import HOOKS, LENS, OURS, PLAIN, DifferentOutput, Entry, Group, Ratio, compare, ratio
from benchmarks.making import make, rows_of
from benchmarks.tasks import hooks
from tests.support import TEXTS, network

PLAN = Plan(repeats=2, loops=1, warmup=0, new_tokens=3, patch_layers=2, patch_positions=3)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    rows = rows_of(2, (32, 32), TEXTS)
    return make(tmp_path_factory.mktemp("case"), "tiny", network("llava", eager=False), rows, PLAN)


@pytest.fixture(scope="module")
def measured(ours):
    return sides.run(sides.of_package(ours), "cpu")


@pytest.fixture(scope="module")
def found(measured):
    lens = [_as_lens(group) for group in measured["measured"] if group["task"] == sides.CAPTURE]
    memory = [{"prompts": n, "before MiB": 500.0, "grown MiB": 2.0} for n in (1000, 10000)]
    imported = {"median": 0.2, "least": 0.1, "most": 0.4, "cpu": 0.15, "repeats": 3, "too early": []}
    theirs = {"versions": {"transformer-lens": "4"}, "measured": lens, "notes": ["a note"]}
    return {"sides": {OURS: measured, LENS: theirs}, "import": imported, "memory": memory}


def _as_lens(group):
    times = ("seconds", "cpu")
    return group | {t: {PLAIN: group[t][PLAIN], LENS: [4 * s for s in group[t][OURS]]} for t in times}


def test_every_task_is_measured_and_agrees_with_bare_hooks(measured):
    tasks = {group["task"]: group for group in measured["measured"]}
    assert set(sides.LOOPS) < set(tasks)
    assert {sides.CAPTURE, sides.ENCODED, sides.ADD, sides.GENERATE, sides.STEER, sides.SAMPLE} < set(tasks)
    for task, group in tasks.items():
        assert OURS in group["apart"], task
        assert all(len(seconds) == (1 if task in sides.LOOPS else 2) for seconds in group["seconds"].values()), task
    assert json.loads(json.dumps(measured)) == measured
    assert measured["versions"]["torch"] == torch.__version__.split("+")[0]


def test_edits_by_hooks_change_something(ours):
    case = ours.case
    clean, tokens = hooks.forward(case), hooks.generate(case)
    assert not torch.allclose(hooks.add(case), clean)
    for loop in (hooks.sweep, hooks.ablation, hooks.patch_spread):
        cells = loop(case)
        assert cells.shape[1:] == clean.shape[:1]
        assert cells.std(0).min() > 0
    assert tokens.shape == hooks.steer(case).shape == (2, PLAN.new_tokens)
    assert not torch.equal(hooks.capture(case), hooks.capture(case, tensors=case.others))


def test_a_case_is_read_back(ours):
    case = load(ours.case.folder)
    assert (case.name, case.plan) == ("tiny", PLAN)
    torch.testing.assert_close(hooks.forward(case), hooks.forward(ours.case))
    spread = case.spread_positions
    assert spread[0] == 1 - int(case.tensors["attention_mask"].sum(1).min())
    assert case.last_positions == [-3, -2, -1]


def test_a_library_that_computes_something_else_is_not_timed(ours):
    clean = Entry(HOOKS, lambda: hooks.forward(ours.case))
    other = Entry("drops the image", lambda: hooks.forward(ours.case, tensors=ours.case.others))
    with pytest.raises(DifferentOutput, match=r"tiny: drops the image's output is .* away from hooks's"):
        compare(Group("forward", "tiny", [clean, other], 1), CPU)
    shorter = Entry("shorter", lambda: hooks.forward(ours.case)[:, :-1])
    with pytest.raises(DifferentOutput, match="shorter's output is inf away"):
        compare(Group("forward", "tiny", [clean, shorter], 1), CPU)


def test_ratios_are_of_rounds():
    assert ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == Ratio(3.0, 2.5, 3.5, 2.0, 3)
    assert ratio([3.0], [2.0]) == Ratio(1.5, 1.5, 1.5, 1.5, 1)


def test_loops_say_how_many_times_faster_and_targets_are_judged():
    def group(task, **seconds):
        return {
            "task": task,
            "case": f"{results.LLAVA}, 1 prompt",
            "seconds": seconds,
            "cpu": seconds,
            "apart": {OURS: 1e-7},
        }

    sweep = group(sides.SWEEP, **{HOOKS: [30.0, 60.0], OURS: [1.0, 2.0]})
    capture = group(sides.CAPTURE, **{PLAIN: [1.0, 1.0], OURS: [1.04, 1.2]})
    faster, slower = results.rows_of([sweep, capture])
    assert (faster.ratio.median, faster.against, faster.target, faster.met) == (30.0, HOOKS, 25.0, True)
    assert (slower.against, slower.target, slower.met) == (PLAIN, 1.05, False)
    assert math.isclose(slower.ratio.median, 1.12)
    assert "**missed**" in results.table([slower])
    assert "30 x faster" in results.table([faster])


def test_transformerlens_is_compared_through_the_plain_call(found):
    row = next(row for row in report.rows(found) if row.against == LENS)
    assert (row.task, row.library, row.faster) == (sides.CAPTURE, OURS, True)
    assert math.isclose(row.ratio.median, 4.0)
    assert row.met


def test_the_page_holds_every_row_and_no_path(found, ours):
    page = report.page(found)
    assert all(row.task in page and row.library in page for row in report.rows(found))
    assert "a note; it is measured by the paths of modules." in page
    assert "transformer-lens 4" in page
    assert "10,000 prompts 2 MiB. Constant memory: met" in page
    assert "adds 0.20 s (0.10-0.40 in 3 fresh processes; 0.15 s of processor time)" in page
    assert str(ours.case.folder) not in page


def test_what_is_missed_is_said(found):
    late = found["import"] | {"median": 0.5, "too early": ["pandas"]}
    assert "**missed**. Too early: pandas." in report.import_words(late)
    leaking = [{"prompts": n, "before MiB": 500.0, "grown MiB": n / 10} for n in (1000, 10000)]
    assert "**missed**" in report.memory_words(leaking)


def test_importing_the_package_brings_in_nothing_that_can_wait():
    found = importing.once()
    assert "cmrm_interp.model" in found["modules"]
    assert importing.too_early(found["modules"]) == []
    assert "transformers.modeling_utils" not in found["modules"], "more than a second, first needed with a model"
