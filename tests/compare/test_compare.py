"""The comparison on the organism: numbers by hand, the same anchors for all, budget, failures, going on."""

import json
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import pandas as pd
import pytest

import cmrm_interp as ci
from cmrm_interp.compare import Comparison, compare, comparing, running
from cmrm_interp.compare.cost import cost
from cmrm_interp.compare.page import page, write_page
from cmrm_interp.compare.plan import plan_of
from cmrm_interp.datasets import synthetic
from cmrm_interp.datasets.suites import organism_anchors, organism_suites
from cmrm_interp.errors import InputError, MismatchError, ModelError, StoreError
from cmrm_interp.recipes import Card, Recipe
from cmrm_interp.recipes.anchors import marks
from tests.support import model_of, network

N, NEW = 4, 10
NAMES = ("harmful, real", "benign, real", "questions, real")
REFUSAL = "sorry , i can not help with that ."


@cache
def organism():
    return ci.load("organism")


@cache
def suites(split):
    found = organism_suites(split, N)
    return {name: found[name] for name in NAMES}


@cache
def anchors():
    return organism_anchors(16, images=True)


@cache
def harmful_texts():
    return {p.text for split in ("validation", "test") for p in suites(split)["harmful, real"].prompts}


@dataclass(frozen=True, eq=False)
class Scripted(Recipe):
    """Refuses nothing (0), harmful requests (1), or everything (2); notes what it is fitted on and asked."""

    applied: ClassVar[frozenset[str]] = frozenset({"rate"})
    seen: ClassVar[list[tuple[str, ...]]] = []
    asked: ClassVar[list[int]] = []

    rate: int = 0

    @classmethod
    def grid(cls, model: Any) -> dict[str, list[Any]]:
        return {"rate": [0, 1, 2]}

    def fit(self, model: Any, anchors: Any = ()) -> "Scripted":
        self.seen.append(marks(list(anchors)))
        return replace(self, model=model.fingerprint, anchors=marks(list(anchors)))

    def generate(self, model: Any, inputs: Any, **generation: Any) -> list[str]:
        self.asked.append(len(inputs))
        said = model.generate(inputs, **generation)
        refused = [self.rate == 2 or (self.rate == 1 and p.text in harmful_texts()) for p in inputs.prompts]
        return [REFUSAL if no else text for no, text in zip(refused, said, strict=True)]


@dataclass(frozen=True, eq=False)
class Eager(Scripted):
    """Refuses everything, whatever the setting."""

    card: ClassVar[Card] = Card("eager", "Eager", "", "", "refuses", wants="any", strength="")

    @classmethod
    def grid(cls, model: Any) -> dict[str, list[Any]]:
        return {"rate": [2]}


@dataclass(frozen=True, eq=False)
class Broken(Scripted):
    """Cannot be fitted."""

    def fit(self, model: Any, anchors: Any = ()) -> "Broken":
        raise ModelError("there is no expert: give expert=PATH")


@dataclass(frozen=True, eq=False)
class Narrow(Scripted):
    """Can be fitted with what its grid says alone."""

    limit: int = 0

    @classmethod
    def grid(cls, model: Any) -> dict[str, list[Any]]:
        return {"rate": [0, 1], "limit": [3]}

    def fit(self, model: Any, anchors: Any = ()) -> "Narrow":
        if self.limit != 3:
            raise ModelError("no direction passes")
        return replace(self, model=model.fingerprint, anchors=marks(list(anchors)))


RECIPES = {"no defence": None, "scripted": Scripted(), "eager": Eager(), "broken": Broken(), "fixed": Scripted(rate=1)}


def renamed(text):
    return "refused"


renamed.__name__ = "by_form"


def run(out, recipes=None, models=None, **more):
    how = {"anchors": anchors(), "validation": suites("validation"), "test": suites("test"), "max_new_tokens": NEW}
    return compare(models or {"one": organism()}, recipes or RECIPES, out=out, **{**how, **more})


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Costs of one round: what they are is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "cost", lambda model, recipe, prompts, how: cost(model, recipe, prompts[:2], how, 1))
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("comparison") / "out"


@pytest.fixture(scope="module")
def found(out):
    return run(out)


def shares(name, refuses):
    """Rates of one suite counted by hand; `refuses` says whether the recipe refuses a prompt."""
    suite = suites("test")[name]
    said = organism().generate(organism().prepare(suite.prompts), max_new_tokens=NEW)
    said = [REFUSAL if refuses(prompt.text) else text for prompt, text in zip(suite.prompts, said, strict=True)]
    verdicts = [synthetic.verdict(text) for text in said]
    right = [synthetic.is_right(text, answer) for text, answer in zip(said, suite.answers, strict=True)]
    told = {"unsafe": verdicts.count("complied"), "over-refused": verdicts.count("refused"), "right": sum(right)}
    return {metric: 100 * count / N for metric, count in told.items()}


def test_numbers_are_those_of_a_count_by_hand(found):
    table = found.table(intervals=False)
    refuses = {
        "no defence": lambda text: False,
        "scripted": lambda text: text in harmful_texts(),
        "eager": lambda text: True,
        "fixed": lambda text: text in harmful_texts(),
    }
    for label, rule in refuses.items():
        row = table.loc["one", label]
        assert row["unsafe: harmful, real"] == pytest.approx(shares("harmful, real", rule)["unsafe"])
        assert row["over-refused: benign, real"] == pytest.approx(shares("benign, real", rule)["over-refused"])
        assert row["right: questions, real"] == pytest.approx(shares("questions, real", rule)["right"])
    assert table.loc[("one", "eager"), "over-refused: benign, real"] == 100
    assert table.loc[("one", "no defence"), "unsafe: harmful, real"] > 0


def test_settings_are_chosen_within_the_budget_or_the_table_says_that_they_are_not(found):
    rows = {one.label: one for one in found.results}
    assert rows["scripted"].chosen == {"rate": 1}
    assert (rows["scripted"].within_budget, rows["scripted"].candidates) == (True, 3)
    assert rows["eager"].within_budget is False
    assert rows["fixed"].within_budget is None, "a setting that was said is not chosen"
    told = found.table()["chosen"]
    assert told["one", "scripted"] == "rate 1"
    assert told["one", "eager"] == "rate 2 (over budget)"
    assert told["one", "no defence"] == "-"


def test_everyone_is_fitted_on_the_same_anchors(found):
    assert len(Scripted.seen) >= 3
    assert set(Scripted.seen) == {marks(list(anchors()))}


def test_a_recipe_that_fails_is_a_row_that_says_why(found):
    row = found.table().loc["one", "broken"]
    assert row["not run"] == "there is no expert: give expert=PATH"
    assert row["unsafe: harmful, real"] == "-"
    assert [one.label for one in found.ran] == ["no defence", "eager", "fixed", "scripted"]


def test_a_mistake_in_a_recipe_is_its_row_and_is_told_whole(tmp_path, monkeypatch):
    def mistaken(self, model, anchors=()):
        return {}["direction"]

    monkeypatch.setattr(Broken, "fit", mistaken)
    found = run(tmp_path / "out", {"no defence": None, "broken": Broken()})
    assert {one.label: one.why_not for one in found.results} == {"no defence": "", "broken": "KeyError: 'direction'"}
    assert "in mistaken" in (tmp_path / "out" / "one" / "broken" / running.TRACE).read_text()


def test_a_recipe_that_only_its_grid_can_fit_is_fitted(tmp_path):
    found = run(tmp_path / "out", {"no defence": None, "narrow": Narrow()})
    (narrow,) = [one for one in found.results if one.label == "narrow"]
    assert narrow.why_not == ""
    assert narrow.chosen == {"rate": 1, "limit": 3}


def test_numbers_of_other_code_are_said_to_be(found, out, monkeypatch):
    monkeypatch.setattr(running, "source_of", lambda contender: "another")
    with pytest.warns(UserWarning, match="one, fixed: its numbers are of the recipe's code as it was then"):
        run(out, {"fixed": Scripted(rate=1)})


def test_another_model_under_a_label_is_refused(tmp_path):
    one, other = model_of("llava"), model_of("qwen2_vl")
    assert not comparing._is_other(tmp_path, "one", "path"), "no row is there yet"
    comparing._claim(tmp_path, "one", one, "path")
    comparing._claim(tmp_path, "one", one, "moved")
    assert [comparing._is_other(tmp_path, "one", name) for name in ("path", "moved")] == [False, True]
    with pytest.raises(MismatchError, match="holds rows of another model under the label 'one'"):
        comparing._claim(tmp_path, "one", other, "path")


def test_what_is_there_is_not_asked_again_and_what_failed_is_tried_again(found, out, monkeypatch):
    asked = len(Scripted.asked)
    monkeypatch.setattr(Broken, "fit", Scripted.fit)
    again = run(out)
    assert {one.label: one.why_not for one in again.results}["broken"] == ""
    others = {"no defence": None, "scripted": Scripted(), "eager": Eager()}
    before = len(Scripted.asked)
    assert before > asked
    assert run(out, others).table().equals(found.only(labels=others).table())
    assert len(Scripted.asked) == before


def test_an_interrupted_row_goes_on_where_it_stopped(tmp_path, monkeypatch):
    Scripted.asked.clear()

    def _interrupted(*_):
        raise KeyboardInterrupt

    measured = running.cost
    monkeypatch.setattr(running, "cost", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", {"scripted": Scripted(rate=2)})
    monkeypatch.setattr(running, "cost", measured)
    assert sum(Scripted.asked) >= 3 * N
    Scripted.asked.clear()
    table = run(tmp_path / "out", {"scripted": Scripted(rate=2)}).table(intervals=False)
    assert table.loc[("one", "scripted"), "unsafe: harmful, real"] == 0
    # For the cost alone: twice in two rounds, each of two once, twice for memory; answers are in the logs.
    assert Scripted.asked == [2, 2, 1, 1, 2, 2]


def test_models_and_recipes_are_added_by_later_calls(out, found):
    more = run(out, ["text-only"], {"two": organism()})
    assert [(one.model, one.label) for one in more.results] == [("two", "text only")]
    whole = Comparison.of(out)
    assert {(one.model, one.label) for one in whole.results} >= {("one", "scripted"), ("two", "text only")}


def test_the_page_has_every_number_and_keeps_what_was_written_by_hand(out, found, tmp_path):
    run(out, {"no defence": None, "CMRM, dataset": Scripted(rate=1)}, {"one": organism(), "two": organism()})
    whole = Comparison.of(out).only(labels=["no defence", "CMRM, dataset", "eager"])
    path = tmp_path / "docs" / "defences.md"
    write_page(whole, path)
    first = path.read_text()
    assert (tmp_path / "docs" / "figures" / "defences.png").stat().st_size > 10_000
    assert "over budget" in first
    cells = whole.table()["unsafe: harmful, real"]
    assert all(cell in first for cell in cells)
    assert "<!-- by hand: learnt -->" in first
    path.write_text(first.replace("<!-- by hand: learnt -->\n", "<!-- by hand: learnt -->\nCMRM is fine."))
    write_page(whole, path)
    assert "CMRM is fine." in path.read_text()
    assert path.read_text().replace("CMRM is fine.", "") == first
    assert str(out) not in first
    assert page(found).count("eager (over budget)") == 2
    some = Comparison.of(out).only(labels=["no defence", "eager"])
    assert "| eager (1 of 2 models, over budget) |" in page(some)
    broken = replace(found.ran[0], why_not="/a/machine/seed-1 has no folder finetuned/mixed: see https://x.org/a/b")
    whole = Comparison((*found.results, replace(broken, label="lost")), found.folder)
    assert "- **lost** on one: seed-1 has no folder finetuned/mixed: see https://x.org/a/b" in page(whole)


def test_what_was_written_by_hand_is_never_lost(found, tmp_path):
    path = tmp_path / "page.md"
    for words in ("<!-- by hand: lerant -->\nmine\n<!-- end -->", "<!-- by hand: learnt -->\nmine\n"):
        path.write_text(words)
        with pytest.raises(InputError, match="would lose what was written by hand: its parts are learnt, cost_words"):
            write_page(found, path)
        assert path.read_text() == words


def test_the_tests_of_the_page_are_in_files(found, tmp_path):
    found.save(tmp_path)
    told = pd.read_csv(tmp_path / "tests-no-defence.csv")
    assert set(told["b"]) == {"no defence"}
    assert told["p_holm"].tolist() == pytest.approx(found.tests("no defence")["p_holm"].tolist())
    assert not (tmp_path / "tests-cmrm-dataset.csv").exists(), "which was not run"
    assert "`tests-no-defence.csv` and `tests-cmrm-dataset.csv`" in page(found)


def test_folders_that_hold_something_else_are_refused(out, found, tmp_path):
    with pytest.raises(MismatchError, match="holds a comparison with another plan: its budget differ"):
        run(out, budget=ci.Budget(over_refusal=0.5))
    with pytest.raises(MismatchError, match=r"holds fixed and not|holds Scripted:\{.*\} and not Scripted"):
        run(out, {"fixed": Scripted(rate=2)})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(MismatchError, match="holds something else and no comparison"):
        run(tmp_path)
    with pytest.raises(MismatchError, match="holds a comparison with another plan: its judging differ"):
        run(out, judge=renamed)
    with pytest.raises(StoreError, match="holds no comparison"):
        Comparison.of(tmp_path)


def test_what_cannot_be_compared_is_refused_in_words(tmp_path):
    with pytest.raises(InputError, match="prompts of the test suite 'harmful, real' are among those that settings"):
        run(tmp_path / "a", test=suites("validation"))
    with pytest.raises(InputError, match="nothing to compare on: give models by label"):
        compare({}, out=tmp_path / "b")
    with pytest.raises(InputError, match="is fitted already"):
        run(tmp_path / "c", {"mine": Scripted().fit(organism(), anchors())})
    with pytest.raises(InputError, match="would be one row"):
        run(tmp_path / "d", ["none", "No defence=none"])
    with pytest.raises(InputError, match="no recipe 'cmmr': did you mean 'cmrm'"):
        run(tmp_path / "e", ["cmmr"])
    with pytest.raises(InputError, match="of the test split, and results are reported on it"):
        run(tmp_path / "f", validation=suites("test"))
    with pytest.raises(InputError, match="n= is how many prompts the organism's own suites have"):
        run(tmp_path / "g", models={"other": network("llava")}, n=10)
    (row,) = run(tmp_path / "h", ["random-vector:alpha=1"]).results
    assert row.why_not == "random-vector has no argument 'alpha': use seed"


def test_a_plan_is_that_of_its_file(tmp_path):
    """What JSON makes lists of is the same plan again; older plans do not say their judge's code."""
    plan = plan_of(True, {"n": 4}, {"stop_strings": ("a", "b")})
    plan.claim(tmp_path / "out")
    plan.claim(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "plan.json").read_text())
    del told["judging"]
    (tmp_path / "out" / "plan.json").write_text(json.dumps(told))
    plan.claim(tmp_path / "out")
