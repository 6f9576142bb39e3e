"""Every lesson has exercises with checks; the checks let the folded answers pass, and nothing else."""

import ast
from unittest.mock import patch

import matplotlib
import numpy as np
import pytest
import torch

from cmrm_interp.recipes import RECIPES
from tests.lessons.exercises import LESSONS, bound, depends, exercises, needed
from tests.support import unchecked

lessons = pytest.mark.parametrize("lesson", LESSONS, ids=[path.stem for path in LESSONS])


@lessons
def test_each_placeholder_has_a_check_and_a_folded_answer(lesson):
    found = exercises(lesson)
    assert found, "no cell with `name = ...`"
    for exercise in found:
        answered = bound(ast.parse(exercise.answer))
        for name in exercise.names:
            guards = exercise.guards(name)
            assert guards, f"no `if {name} is not ...:` behind the cell"
            assert any(depends(guard.body, name) for guard in guards), f"nothing about {name} is asserted"
            assert name in answered, f"the folded answer does not set {name}"


@pytest.mark.slow
@lessons
def test_checks_let_the_folded_answer_pass_and_nothing_else(lesson, monkeypatch):
    monkeypatch.chdir(lesson.parent)
    matplotlib.use("agg")
    for exercise in exercises(lesson):
        names = {"__name__": "__main__"}
        with unchecked(), patch.dict(RECIPES):  # as for a reader, and what a lesson registers is forgotten
            _run(exercise.needed(), names)
            _run(exercise.cell, names)
            _run(exercise.checks, names)  # silent as long as nothing was replaced
            _run(exercise.answer, names)
            assert all(names[name] is not ... for name in exercise.names)
            _run(exercise.checks, names)
            for name, wrong in _wrong({name: names[name] for name in exercise.names}):
                with pytest.raises(AssertionError):
                    _run(exercise.checks, names | dict.fromkeys(exercise.names, ...) | {name: wrong})


def _run(code, names):
    for cell in [code] if isinstance(code, str) else code:
        exec(compile(cell, "<cell>", "exec"), names)


def _wrong(answers):
    """Values of the same kinds that are no answers; of functions, classes and the like there are none."""
    for name, value in answers.items():
        if isinstance(value, int | float | np.number):
            yield name, value + 1
        elif isinstance(value, torch.Tensor | np.ndarray):
            yield name, value * 0 + 1
        elif isinstance(value, dict | list | tuple | set):
            yield name, type(value)()


def test_what_an_exercise_needs_is_kept_with_what_changes_it():
    cells = [
        "a = 1\nb = [a]\nc = {n: 2 for n in b}\nimport math",
        "b.append(3)\nprint(b)",
        "b = 0\nassert c",
        "for n in (1, 2):\n    c[n] = n\nc.items()",
    ]
    kept = list(needed(cells, "def f():\n    return [n + b for n in c]"))
    assert kept == [
        "a = 1",
        "b = [a]",
        "c = {n: 2 for n in b}",
        "b = 0",
        "for n in (1, 2):\n    c[n] = n",
    ]
    assert "b.append(3)" in list(needed(cells[:2], "b"))


def test_an_assert_may_depend_on_a_name_by_way_of_others():
    body = ast.parse("both = [1, mine]\nassert sum(both) > 2").body
    assert depends(body, "mine")
    assert not depends(body, "other")
