"""Evaluations as a command line says them: what is loaded is freed again."""

import gc

import pytest

from cmrm_interp.closed import Closed
from cmrm_interp.errors import InputError
from cmrm_interp.evaluation import loaded, specified
from cmrm_interp.evaluation.specified import Asked, evaluate_specs
from cmrm_interp.judges import by_form
from cmrm_interp.judges.base import ByText
from cmrm_interp.model import Model

SUITE = ("organism:name=harmful-blank,n=2",)


def in_memory() -> int:
    gc.collect()
    return sum(isinstance(one, Model) and not isinstance(one.hf, Closed) for one in gc.get_objects())


def test_a_model_its_backbone_and_the_judges_are_freed_before_the_next_is_loaded(tmp_path, monkeypatch):
    load, before, seen, closed = specified.load, in_memory(), [], []

    class Judge(ByText):
        def close(self):
            closed.append(self.name)

    monkeypatch.setattr(specified, "load", lambda *a, **how: seen.append(in_memory() - before) or load(*a, **how))
    monkeypatch.setattr(specified, "judge_of", lambda spec: Judge(by_form, spec))
    asked = Asked(("a=organism", "b=organism"), SUITE, ("none", "backbone"), ("form",))
    report = evaluate_specs(asked, tmp_path, max_new_tokens=2)
    assert len(report.answers) == 8
    assert seen == [0, 0]
    assert closed == ["form"]
    assert not loaded._SHARED


def test_models_whose_folders_would_be_one_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"models \['a b', 'a-b'\] would be written into one folder.*labels"):
        evaluate_specs(Asked(("a b=organism", "a-b=organism"), SUITE), tmp_path)
