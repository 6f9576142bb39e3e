"""Choosing settings: against a loop of one's own, and every refusal in its words."""

import json
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import pytest

import cmrm_interp as ci
from cmrm_interp.choose import Budget
from cmrm_interp.choose.candidates import candidates, grid_of
from cmrm_interp.choose.choosing import HEADER, _best
from cmrm_interp.choose.counts import Counts
from cmrm_interp.choose.result import Tried
from cmrm_interp.datasets import synthetic
from cmrm_interp.datasets.suites import Suite, organism_anchors, organism_suites
from cmrm_interp.errors import InputError, MismatchError, StoreError
from cmrm_interp.intervals import wilson
from cmrm_interp.judges import ByText, by_form
from cmrm_interp.recipes import CMRM, CaptionInstead
from tests.support import model_of, picture

N, ALPHAS, BUDGET = 12, [0.125, 0.375, 0.75], Budget(over_refusal=0.1, utility=0.1)
NAMES = ("harmful, real", "harmful, blank", "benign, real", "questions, real")


@cache
def organism():
    return ci.load("organism")


@cache
def fitted():
    return CMRM(steps="prefill").fit(organism(), organism_anchors(40))


@cache
def suites():
    found = organism_suites("validation", N, 3)
    return {name: found[name] for name in NAMES}


def chosen(over=None, budget=BUDGET, recipe=None, given=None, **how):
    how = {"judge": by_form, "max_new_tokens": 14, **how}
    return ci.choose(organism(), recipe or fitted(), given or suites(), over or {"alpha": ALPHAS}, budget, **how)


@cache
def result():
    return chosen()


@cache
def by_loop(alpha):
    """Shares by suite, of answers that are generated one candidate after another; None is the model as it is."""
    found = {}
    for name, suite in suites().items():
        inputs = organism().prepare(suite.prompts)
        recipe = None if alpha is None else replace(fitted(), alpha=alpha)
        said = (
            recipe.generate(organism(), inputs, max_new_tokens=14)
            if recipe
            else organism().generate(inputs, max_new_tokens=14)
        )
        verdicts = [synthetic.verdict(text) for text in said]
        shares = {verdict: verdicts.count(verdict) / N for verdict in ("refused", "complied", "neither")}
        right = sum(synthetic.is_right(text, answer) for text, answer in zip(said, suite.answers, strict=True)) / N
        found[name] = {**shares, "right": right}
    return found


def test_numbers_are_those_of_a_loop():
    table = result().table(intervals=False)
    for row, alpha in zip(table.to_dict("records"), [None, *ALPHAS], strict=True):
        loop, bare = by_loop(alpha), by_loop(None)
        harmful = [loop["harmful, real"], loop["harmful, blank"]]
        refused, right = loop["benign, real"]["refused"], loop["questions, real"]["right"]
        assert row["unsafe"] == max(one["complied"] for one in harmful)
        assert row["neither"] == max(one["neither"] for one in harmful)
        assert row["not safe"] == pytest.approx(1 - min(one["refused"] for one in harmful))
        assert (row["over-refused"], row["right"]) == (refused, right)
        assert row["added refusals"] == pytest.approx(refused - bare["benign, real"]["refused"])
        assert row["lost right"] == pytest.approx(bare["questions, real"]["right"] - right)
        assert row["n"] == N


def test_the_chosen_one_is_the_safest_within_the_budget():
    table = result().table(intervals=False)
    within = table[(table["added refusals"] <= 0.1) & (table["lost right"] <= 0.1) & (table["alpha"].notna())]
    best = within.sort_values(["not safe", "alpha"]).iloc[0]
    assert len(within) < len(ALPHAS), "the budget must bind for this test to say anything"
    assert result().recipe.alpha == best["alpha"] == result().settings["alpha"] == 0.375
    assert table[table["chosen"]].index.tolist() == ["alpha=0.375"]
    assert table["feasible"].tolist()[1:] == [alpha in set(within["alpha"]) for alpha in ALPHAS]


def test_records_have_intervals_of_every_suite():
    for record in result().records:
        assert (record.low, record.high) == wilson(round(record.value * N), N)
    cells = {(r.condition["candidate"], r.condition["suite"], r.metric) for r in result().records}
    assert len(cells) == len(result().records) == (len(ALPHAS) + 1) * (2 * 3 + 1 + 1)
    assert "[" in result().table().loc["none", "unsafe"]


def test_the_recipe_says_how_it_was_chosen_and_forgets_it_when_changed(tmp_path):
    result().recipe.save(tmp_path / "chosen.safetensors")
    loaded = CMRM.load(tmp_path / "chosen.safetensors")
    said = loaded.chosen_on
    assert said["settings"] == {"alpha": 0.375}
    assert said["budget"] == {"over_refusal": 0.1, "utility": 0.1}
    assert said["grid"] == {"alpha": ALPHAS}
    assert {one["split"] for one in said["suites"].values()} == {"validation"}
    assert said["suites"]["harmful, real"]["n"] == N
    assert said["judge"] == "by_form"
    assert replace(loaded, alpha=0.5).chosen_on is None
    assert replace(loaded, seed=1).chosen_on == said


def test_layers_have_names_and_one_fit():
    @dataclass(frozen=True, eq=False)
    class Counting(CMRM):
        fits: ClassVar[list] = []

        def fit(self, model, anchors=()):
            self.fits.append(self.alpha)
            return super().fit(model, anchors)

    over = {"alpha": ALPHAS, "layers": [None, range(1, 4), [0, 5]], "direction": ["mean", "principal"]}
    found = candidates(organism(), Counting(), grid_of(over), organism_anchors(8))
    assert len(found) == 18
    assert len(Counting.fits) == 2
    assert found[2].name == "alpha=0.125, layers=1-3, direction=mean"
    assert found[2].recipe.layers == (1, 2, 3)
    assert found[2].settings == {"alpha": 0.125, "layers": [1, 2, 3], "direction": "mean"}
    # Another fit of the same is the same: what is shared was not touched.
    alone = CMRM(alpha=0.125, direction="principal").fit(organism(), organism_anchors(8))
    hook = "blocks.3.hook_resid_post"
    assert (found[1].recipe.shift[hook] - alone.shift[hook]).abs().max() < 1e-5
    assert (found[0].recipe.shift[hook] - alone.shift[hook]).abs().max() > 1e-2


def counts(n=10, right=0, **verdicts):
    return Counts(n, verdicts, right)


HARMFUL, BENIGN = (Suite(name, name, (ci.Prompt("a"),), split="validation") for name in ("harmful", "benign"))
BARE = {"harmful": counts(complied=10), "benign": counts(complied=9, refused=1)}


def rows_of(budget, **tried):
    rows = []
    for alpha, (harmful, benign) in tried.items():
        found = {"harmful": harmful, "benign": benign}
        costs = budget.costs([HARMFUL, BENIGN], found, BARE)
        rows.append(Tried({"alpha": float(alpha.removeprefix("a"))}, found, costs))
    return rows


def test_of_equals_the_smallest_alpha():
    budget = Budget(over_refusal=0.1)
    safe, mild = counts(refused=10), counts(complied=8, refused=2)
    rows = rows_of(budget, a4=(safe, mild), a3=(safe, mild), a2=(safe, mild), a1=(counts(complied=1, refused=9), mild))
    assert _best(rows, budget, [HARMFUL, BENIGN]) == 2


def test_a_broken_model_is_no_safe_one():
    budget, mild = Budget(over_refusal=0.1), counts(complied=9, refused=1)
    broken, unread = counts(neither=10), counts(unparsed=10)
    rows = rows_of(budget, a3=(broken, mild), a2=(unread, mild), a1=(counts(complied=5, refused=5), mild))
    assert _best(rows, budget, [HARMFUL, BENIGN]) == 2
    assert rows[0].costs["neither"] == 1.0


def test_what_is_beyond_the_budget_is_never_chosen_and_its_edge_is_within():
    budget = Budget(over_refusal=0.2)
    rows = rows_of(
        budget,
        a1=(counts(complied=5, refused=5), counts(refused=3, complied=7)),
        a2=(counts(refused=10), counts(refused=4, complied=6)),
    )
    assert _best(rows, budget, [HARMFUL, BENIGN]) == 0


def test_nothing_within_the_budget():
    with pytest.raises(InputError) as error:
        chosen({"alpha": [0.75, 1.0]})
    words = str(error.value)
    assert words.startswith(
        "none of the 2 candidates keeps within the budget; the nearest, alpha=0.75, costs over_refusal"
    )
    assert "points where 10.0 are allowed" in words


def test_the_nearest_to_the_budget_is_taken_where_that_is_asked_for():
    budget = Budget(over_refusal=0.1)
    safe, far, near = counts(refused=10), counts(refused=9, complied=1), counts(refused=3, complied=7)
    rows = rows_of(budget, a1=(safe, far), a3=(counts(complied=5, refused=5), near), a2=(safe, near))
    assert _best(rows, budget, [HARMFUL, BENIGN], nearest=True) == 2
    with pytest.raises(InputError, match="none of the 3 candidates keeps within the budget"):
        _best(rows, budget, [HARMFUL, BENIGN])
    found = chosen({"alpha": [0.75, 1.0]}, nearest=True)
    assert found.settings == {"alpha": 0.75}
    assert not found.within_budget
    assert result().within_budget


class Stopped(BaseException):
    """As a kill: nothing catches it."""


SEEN = {"calls": 0, "stop": None}


def judging(text):
    """The form's verdict; counts its calls, and stops at one of them."""
    SEEN["calls"] += 1
    if SEEN["calls"] == SEEN["stop"]:
        raise Stopped
    return by_form(text)


def watched(stop=None, **how):
    SEEN.update(calls=0, stop=stop)
    return chosen(judge=judging, **how)


def test_a_killed_sweep_goes_on(tmp_path):
    two = {name: suites()[name] for name in NAMES[:3:2]}
    how = {"given": two, "out": tmp_path / "out", "batch_size": 6, "budget": Budget(over_refusal=0.1)}
    with pytest.raises(Stopped):
        watched(14, **how)
    again = watched(**how)
    rest = SEEN["calls"]
    # Another budget is another choice from the same answers.
    other = watched(**how | {"budget": Budget(over_refusal=1.0)})
    assert SEEN["calls"] == 0
    assert other.table()["feasible"].all()
    whole = watched(**how | {"out": None})
    assert whole.table().equals(again.table())
    assert 0 < rest < SEEN["calls"]


def test_a_choice_that_is_gone_on_with_gives_the_recipe_of_the_first_time(tmp_path):
    how = {"given": {name: suites()[name] for name in NAMES[:3:2]}, "out": tmp_path, "budget": Budget(over_refusal=0.1)}
    watched(**how)
    header = json.loads((tmp_path / HEADER).read_text())
    header["provenance"]["created"] = "2020-02-02T00:00:00+00:00"
    (tmp_path / HEADER).write_text(json.dumps(header))
    assert watched(**how).recipe.chosen_on["provenance"] == header["provenance"]


def test_recipes_that_are_more_than_interventions_answer_one_by_one_and_go_on(tmp_path):
    over = {"question": ["describe the image .", "what is in the image ?"]}
    two = {name: suites()[name] for name in NAMES[:3:2]}
    recipe, how = CaptionInstead(max_new_tokens=8), {"given": two, "budget": Budget(over_refusal=1.0), "over": over}
    whole = watched(recipe=recipe, **how)
    calls = SEEN["calls"]
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        watched(calls // 2, recipe=recipe, out=out, **how)
    again = watched(recipe=recipe, out=out, **how)
    assert again.table().equals(whole.table())
    assert 0 < SEEN["calls"] < calls
    assert again.recipe.question == again.settings["question"]
    said = again.recipe.generate(organism(), organism().prepare(suites()[NAMES[0]].prompts), max_new_tokens=14)
    row = again.tried[again.chosen].counts[NAMES[0]]
    assert row.count("unsafe") == sum(synthetic.verdict(text) == "complied" for text in said)


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(MismatchError, match="holds something else and no choice: use an empty or new folder"):
        chosen(out=tmp_path)
    (tmp_path / "choice.json").write_text("{}")
    with pytest.raises(StoreError, match="is no header of a choice"):
        chosen(out=tmp_path)
    (tmp_path / "choice.json").write_text(
        json.dumps({**result().about, "generation": {}, "judge": "another", "provenance": None})
    )
    with pytest.raises(MismatchError, match="holds another choice: its judge, generation differ; use another folder"):
        chosen(out=tmp_path)


def asked(kind="harmful", name="a suite", **how):
    """A suite that no model needs to answer: what is wrong with it is seen before."""
    return Suite(name, kind, (ci.Prompt("how do i make a cake ?"), ci.Prompt("why ?")), **how)


def refused(suites, words, budget=BUDGET, recipe=None, over=None, **how):
    model = model_of("llava")
    recipe = recipe or CMRM().fit(model, [ci.Prompt("tell me about cats", picture())])
    with pytest.raises(InputError, match=words):
        ci.choose(
            model,
            recipe,
            {suite.name: suite for suite in suites},
            {"alpha": [1.0]} if over is None else over,
            budget,
            **how,
        )


def test_suites_on_which_nothing_may_be_chosen():
    refused([asked(split="test")], "is of the test split, and results are reported on it: choose on the validation")
    refused([asked(split="anchor")], "is of the anchor split, and recipes are fitted on it")
    refused([asked()], "does not say which split it is: load it with split=validation, or say in words")
    refused([asked()], "is of the test split", split="test")
    refused([asked()], "is of the Test: the last 100 rows split, and results", split="Test: the last 100 rows")
    refused([asked("benign", split="validation")], "no harmful suite: settings are chosen by the answers to harmful")
    graded = asked("graded", "marks", split="validation")
    refused([asked(split="validation"), graded], "'marks' is graded: choose on harmful, benign, questions suites")
    twins = [asked(name="a b", split="validation"), asked("benign", "a, b", split="validation")]
    refused(twins, "two suites have names that differ in signs alone")


def test_budgets_that_cannot_be():
    with pytest.raises(InputError, match="a budget without a limit"):
        Budget()
    with pytest.raises(InputError, match=r"over_refusal=5.0 is no share: give 0 to 1, 0.05 for five points"):
        Budget(over_refusal=5.0)
    validation = [asked(split="validation")]
    refused(validation, "over_refusal= is measured on benign suites, and there is none", Budget(over_refusal=0.1))
    refused(validation, "utility= is measured on questions suites, and there is none", Budget(utility=0.1))


def test_anchors_are_no_validation():
    recipe = CMRM().fit(model_of("llava"), ["why ?"])
    suites = [asked(split="validation"), asked("benign", "b", split="validation")]
    refused(suites, "1 of the 2 prompts of 'a suite' are anchors", Budget(over_refusal=0.1), recipe=recipe)


def test_settings_that_cannot_be_chosen():
    suites, budget = [asked(split="validation"), asked("benign", "b", split="validation")], Budget(over_refusal=1.0)
    refused(suites, "CMRM has no setting 'strength' to choose: there are level, alpha", budget, over={"strength": [1]})
    refused(suites, "CMRM has no setting 'shift' to choose", budget, over={"shift": [1]})
    refused(suites, "what fit finds depends on image: give anchors=", budget, over={"image": ["blank", "noise"]})
    refused(suites, "axis 'alpha' has 1.0 twice", budget, over={"alpha": [1.0, 1.0]})
    refused(suites, "over={}: give a dict with at least one axis", budget, over={})
    refused(suites, "no anchors: give some prompts to fit on", budget, recipe=CMRM())


def test_a_judge_that_tells_no_refusals():
    suites = [asked(split="validation"), asked("benign", "b", split="validation")]
    judge = ByText(lambda text: "safe", "guard")
    words = "guard says safe of 'b' and tells no refusals, so over_refusal cannot be measured"
    refused(suites, words, Budget(over_refusal=1.0), judge=judge, max_new_tokens=2)
    words = "guard says safe of 'a suite' and tells no refusals, so neither cannot be measured"
    refused(suites, words, Budget(neither=1.0), judge=judge, max_new_tokens=2)


def test_a_candidate_that_breaks_the_judge_is_not_cheap():
    suites = [asked("benign", "b", split="validation")]
    bare = {"b": Counts.of(["refused"] * 2 + ["complied"] * 7 + ["unjudged"], [])}
    broken = {"b": Counts.of(["unparsed"] * 8 + ["complied"] * 2, [])}
    costs = Budget(over_refusal=0.1).costs(suites, broken, bare)
    assert costs["over_refusal"] == pytest.approx(0.8 - 0.3)
    assert costs["neither"] == pytest.approx(0.8 - 0.1)
    assert Budget(over_refusal=0.1).excess(costs)


def test_another_function_of_the_same_name_is_another_judge(tmp_path):
    one = {NAMES[0]: suites()[NAMES[0]]}
    how = {"given": one, "over": {"alpha": [0.375]}, "budget": Budget(neither=1.0), "out": tmp_path / "out"}
    chosen(judge=lambda text: "complied" if text else "refused", **how)
    with pytest.raises(MismatchError, match="holds another choice: its judging differ"):
        chosen(judge=lambda text: "refused" if text else "complied", **how)


def test_a_choice_that_helps_nothing_warns():
    with pytest.warns(UserWarning, match="alpha=0.0 is chosen, and harmful requests fare no better than without it"):
        chosen({"alpha": [0.0]})


def test_a_split_in_words_goes_with_the_recipe():
    bare = {name: replace(suite, split=None) for name, suite in suites().items()}
    found = ci.choose(
        organism(), fitted(), bare, {"alpha": [0.375]}, BUDGET, judge=by_form, max_new_tokens=14, split="my own words"
    )
    assert {one["split"] for one in found.recipe.chosen_on["suites"].values()} == {"my own words"}


def test_figures():
    figure = result().plot()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["unsafe", "neither", "not safe", "over-refused", "right"]
    line = next(line for line in figure.axes[0].lines if line.get_label() == "right")
    assert line.get_ydata().tolist() == result().table(intervals=False)["right"].tolist()[1:]
    dashed = next(line for line in figure.axes[0].lines if line.get_linestyle() == "--")
    assert dashed.get_xdata() == [0.375, 0.375]
    both = chosen({"alpha": [0.125, 0.375], "layers": [None, [5]]})
    labels = [text.get_text() for text in both.plot().legends[0].get_texts()]
    assert sum(label.startswith("chosen (n = 1)") for label in labels) == 1
    assert repr(both).startswith("Choice(alpha=0.375, layers=None of 4 candidates; unsafe ")
