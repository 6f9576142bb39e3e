"""The report: tables in the order given, words under them, files, and what is refused."""

import io
import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from cmrm_interp import records
from cmrm_interp.errors import InputError, MismatchError, StoreError
from cmrm_interp.judges import Judgement
from cmrm_interp.provenance import Provenance
from cmrm_interp.reports.report import Report
from cmrm_interp.reports.writing import to_csv
from tests.evaluation.made import ORIGIN, graded, judged, marked, measured


def two(**how):
    """Two defences on a harmful suite and questions."""
    return (
        judged("cccc", defence="z", **how)
        + marked([1, 1, 0, 0], defence="z", **how)
        + judged("rrrr", defence="a", **how)
        + marked([1, 1, 1, 0], defence="a", **how)
    )


def test_the_table_keeps_the_order_given():
    table = Report(two()).table(intervals=False)
    assert list(table.index) == ["z", "a"]
    assert list(table.columns) == [("s", "unsafe"), ("s", "refused"), ("s", "neither"), ("q", "right")]
    assert list(table[("s", "unsafe")]) == ["100.0", "0.0"]


def test_cells_have_intervals():
    assert Report(judged("c" * 10)).table().loc["none", ("s", "unsafe")] == "100.0 [72.2, 100.0]"
    assert Report(graded([0.25, 0.25, 0.25])).table().loc["none", ("g", "score")] == "0.250 [0.250, 0.250]"


def test_columns_do_not_move_where_a_later_row_has_more_of_them():
    table = Report(judged("cccc") + marked([1]) + judged("cc??", defence="b")).table()
    assert list(table.columns.get_level_values(0)) == ["s"] * 5 + ["q"]


def test_several_checkpoints_have_rows_of_their_own():
    table = Report(two(checkpoint="7b") + two(checkpoint="13b")).table()
    assert list(table.index) == [("7b", "z"), ("7b", "a"), ("13b", "z"), ("13b", "a")]
    assert table.index.names == ["checkpoint", "defence"]


def test_several_judges_of_a_suite_have_columns_of_their_own():
    both = tuple(
        replace(one, judgements={**one.judgements, "guard": Judgement("unsafe")}) for one in judged("cr") + marked([1])
    )
    columns = list(Report(both).table().columns)
    assert [column[0] for column in columns] == ["form"] * 3 + ["guard"] * 2 + [""]
    assert columns[-1] == ("", "q", "right")


def test_judges_of_different_suites_are_named_under_the_table():
    report = Report(judged("cr") + graded([1.0, 2.0]))
    assert report.table().columns.nlevels == 2
    assert "Judged by form (s); grader (g)." in report.markdown()


def test_metrics_can_be_chosen_for_a_table():
    assert list(Report(two()).table(metrics=["right"]).columns) == [("q", "right")]
    with pytest.raises(InputError, match="there is no metric 'rigth': there are unsafe, refused, neither, right"):
        Report(two()).table(metrics=["right", "rigth"])


def test_joined_reports_show_what_was_not_measured():
    joined = Report(judged("c", defence="a")) + Report(judged("c", "t", defence="b"))
    assert joined.table().loc["b", ("s", "unsafe")] == "-"


def test_rates_are_a_long_table():
    rates = Report(two()).rates("unsafe")
    assert list(rates["defence"]) == ["z", "a"]
    assert {"suite", "value", "low", "high", "n"} <= set(rates)


def test_costs_have_a_table_of_their_own():
    report = Report(measured([1.0, 2.0, 3.0]) + measured([2.0**21, 2.0**21], "bytes", "t"))
    assert "seconds" not in str(report.table().columns)
    numbers = report.numbers(intervals=False)
    assert numbers.loc[("s", "none")].to_dict() == {"seconds": "2.00", "memory (MiB)": "-"}
    assert numbers.loc[("t", "none"), "memory (MiB)"] == "2.00"


def test_what_was_measured_names_what_was_not():
    with pytest.raises(InputError, match="there is no metric 'speed': there are unsafe, refused, neither, right"):
        Report(two()).rates("speed")


def test_a_report_needs_answers():
    with pytest.raises(InputError, match="a report needs answers: these logs hold none"):
        Report(())


def test_the_same_answers_judged_again_are_put_together():
    again = tuple(replace(one, judgements={"guard": Judgement("safe")}) for one in judged("cc"))
    report = Report(judged("cc") + again)
    assert len(report.answers) == 2
    assert set(report.answers[0].judgements) == {"form", "guard"}
    assert (report + report).answers == report.answers


def test_two_answers_under_one_name_are_refused():
    other = tuple(replace(one, answer="no") for one in judged("cc"))
    with pytest.raises(
        MismatchError, match=r"'none' on 'tiny', suite 's', prompt '1' has two different answers: two ru"
    ):
        Report(judged("cc") + other)
    elsewhere = tuple(replace(one, provenance=replace(ORIGIN, weights_hash="other")) for one in judged("cc"))
    with pytest.raises(MismatchError, match="two different answers"):
        Report(judged("cc") + elsewhere)


def test_two_verdicts_of_one_judge_are_refused():
    with pytest.raises(MismatchError, match="form said 'complied' in one log and 'refused' in another"):
        Report(judged("c") + judged("r"))


def test_a_part_of_a_report():
    report = Report(two(checkpoint="7b") + two(checkpoint="13b"))
    part = report.only(checkpoint="7b", defence="a")
    assert {(one.checkpoint, one.defence) for one in part.answers} == {("7b", "a")}
    with pytest.raises(InputError, match="there is no defence 'x': there are 'z', 'a'"):
        report.only(defence="x")


def test_a_suite_in_parts():
    answers = tuple(replace(one, about={"scenario": name}) for one, name in zip(judged("crc"), "aab", strict=True))
    table = Report(answers).by("scenario").table(intervals=False)
    assert table.loc["none", ("s, a", "unsafe")] == "50.0"
    assert table.loc["none", ("s, b", "unsafe")] == "100.0"
    with pytest.raises(InputError, match="no prompt has 'topic': the data says scenario of them"):
        Report(answers).by("topic")


def test_one_n_is_said_and_several_have_a_row():
    assert "n = 4 a cell." in Report(two()).markdown()
    text = Report(judged("cccc", defence="a") + judged("ccc", defence="b") + judged("cccc", defence="c")).markdown()
    assert re.search(r"\| b \| 100\.0 \[43\.9, 100\.0\] \(n = 3\) \|", text)
    assert "| n | 4 | 4 | 4 |" in text
    assert "n = 3 to 4 a cell" in text


def test_n_of_several_checkpoints():
    text = Report(judged("cccc", checkpoint="a") + judged("ccc", checkpoint="b")).markdown()
    assert "| n |  | 4 |" in text
    assert re.search(r"\| b \| none \| 100\.0 \[43\.9, 100\.0\] \(n = 3\) \|", text)


def test_what_was_not_answered_or_read_is_said():
    text = Report(judged("cc!!?x")).markdown()
    assert "1 answers are unparsed by form: they are in no rate of its verdicts" in text
    assert "1 answers are unjudged by form" in text
    assert (
        "2 of 6 prompts have no answer under none on tiny and are in no other n (first: s, 3: out of memory)." in text
    )


def provenance(**settings):
    return replace(ORIGIN, settings={"dtype": "float32", "decoding": {"max_new_tokens": 8}, **settings})


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (provenance(dtype="float16"), "dtype differs: 'float32' for z on tiny; 'float16' for a on tiny (s)"),
        (provenance(decoding={"max_new_tokens": 9}), "decoding.max_new_tokens differs: '8' for z on tiny; '9' for a"),
        (provenance(template="b"), "template differs: 'b' for a on tiny; none for z on tiny (s)"),
        (replace(provenance(), versions={"torch": "3"}), "version of torch differs: '2' for z on tiny; '3' for a on"),
        (replace(provenance(), seed=3), "seed differs: 'None' for z on tiny; '3' for a on tiny (s)"),
    ],
)
def test_rows_that_differ_in_more_than_the_defence_are_said(other, words):
    answers = judged("cc", defence="z", provenance=provenance()) + judged("cc", defence="a", provenance=other)
    report = Report(answers)
    assert len(report.differences()) == 1
    assert words in report.differences()[0]
    assert f"Rows do not compare as they are: {words}" in report.markdown()


def test_the_recipe_is_what_rows_differ_in():
    answers = judged("cc", provenance=provenance(recipe=None)) + judged(
        "cc", defence="a", provenance=provenance(recipe={"name": "CMRM", "alpha": 1.0})
    )
    assert Report(answers).differences() == []


def test_other_prompts_are_said_and_not_tested():
    answers = judged("cc") + judged("ccc", defence="a", asked="something else")
    report = Report(answers)
    assert report.differences() == [
        "n differs: 2 prompts for none on tiny; 3 prompts for a on tiny (s)",
        "a on tiny was asked something else than none on tiny under 2 of 2 equal ids (s)",
    ]
    assert "No defence was tested against another: prompt '1' of the suite 's'" in report.markdown()


def test_a_name_that_stands_for_two_models_is_said():
    answers = judged("c") + marked([1], provenance=replace(ORIGIN, weights_hash="def"))
    assert Report(answers).differences() == ["none on tiny is 2 models (weights abc, def)"]


def test_a_cell_of_several_origins_says_them():
    mixed = judged("c", provenance=provenance(dtype="a")) + tuple(
        replace(one, id="9", provenance=provenance(dtype="b")) for one in judged("c")
    )
    assert Report(mixed).records[0].provenance.settings["dtype"] == "a | b"


def test_markdown_keeps_its_cells():
    text = Report(judged("c" * 10, defence="a|b\nc")).markdown()
    assert "| a\\|b c | 100.0 [72.2, 100.0] |" in text


def test_tests_stand_in_the_document():
    text = Report(judged("c" * 8, defence="none") + judged("r" * 8, defence="CMRM")).markdown()
    assert "| s | unsafe (form) | CMRM | none | -100.0 [-100.0, -54.1] | 8 (0 / 8) | 0.008 | 0.008 |" in text
    assert "corrected (Holm) for the 1 tests of this table" in text


def test_checkpoints_are_pooled_in_the_document():
    text = Report(judged("cccc", checkpoint="a") + judged("ccrr", checkpoint="b")).markdown()
    assert re.search(r"\| none \| s \| unsafe \(form\) \| 75\.0 \[.*\] \| 50\.0 to 100\.0 \| 100\.0 \| 50\.0 \|", text)


LATEX = "50% & $5 #1_a {b} ~ ^ \\ <x>"


def test_latex_is_escaped_and_whole():
    text = Report(judged("cr" * 5, LATEX, defence=LATEX) + judged("rr" * 5, LATEX)).latex()
    escaped = (
        r"50\% \& \$5 \#1\_a \{b\} \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{}x\textgreater{}"
    )
    assert text.count(escaped) == 2, "in the head and in a row"
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    body = [row.replace(r"\&", "") for row in rows if "multicolumn" not in row]
    assert {row.count("&") for row in body} == {3}
    for part in (
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\begin{tabular}{lrrr}",
        r"50.0 {\scriptsize [23.7, 76.3]}",
    ):
        assert part in text
    assert r"95 \% Wilson intervals; n = 10 a cell" in text
    depth = text.replace(r"\{", "").replace(r"\}", "")
    assert depth.count("{") == depth.count("}")


def test_a_folder_holds_all_of_it(tmp_path):
    report = Report(two() + measured([1.0, 2.0], suite="t", defence="a"))
    report.save(tmp_path / "run")
    report.save(tmp_path / "run", baseline="a")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == set("table.md table.tex table.csv comparisons.csv pareto.png records.jsonl answers.jsonl".split())
    assert records.read(tmp_path / "run" / "records.jsonl") == list(report.records)
    lines = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert lines[0]["judgements"] == {"form": {"verdict": "complied", "said": "", "score": None}}
    assert set(pd.read_csv(tmp_path / "run" / "comparisons.csv")["b"]) == {"a"}
    assert "![Safety against utility](pareto.png)" in (tmp_path / "run" / "table.md").read_text()


def test_every_row_of_the_csv_has_its_provenance(tmp_path):
    origin = provenance(recipe={"name": "CMRM", "layers": [1, 2]})
    Report(judged("cr", provenance=origin)).save(tmp_path)
    frame = pd.read_csv(tmp_path / "table.csv")
    first = frame.iloc[0]
    assert (first["weights_hash"], first["version of torch"], first["dtype"]) == ("abc", 2, "float32")
    assert (first["decoding.max_new_tokens"], first["recipe.name"], first["recipe.layers"]) == (8, "CMRM", "[1, 2]")
    assert frame["n"].tolist() == [2, 2, 2]


def test_what_is_long_is_told_in_the_csv_by_a_hash(tmp_path):
    anchors = [f"anchor {n}" for n in range(240)]
    recipes = [{"anchors": anchors, "chosen_on": {"budget": {"x": n}, "grid": list(range(50))}} for n in (1, 1, 2)]
    found = [records.Record({}, "x", 1.0, 1, provenance=provenance(recipe=recipe)) for recipe in recipes]
    frame = pd.read_csv(io.StringIO(to_csv(found)))
    assert frame["recipe.anchors"].str.fullmatch(r"240 values, [0-9a-f]{12}").all()
    same, as_well, other = frame["recipe.chosen_on"]
    assert same == as_well != other
    assert not [name for name in frame if name.startswith("recipe.chosen_on.")]


def test_where_there_is_nothing_to_trade_off_the_document_says_so(tmp_path):
    Report(judged("cr")).save(tmp_path)
    assert not (tmp_path / "pareto.png").exists()
    assert (
        "No figure of safety against utility: no suite says what a defence costs" in (tmp_path / "table.md").read_text()
    )


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file cannot be written \(File exists\): choose another folder"):
        Report(judged("cr")).save(tmp_path / "file")


def test_a_report_says_what_it_holds():
    assert repr(Report(two())) == "Report(1 checkpoint, 2 defences, 2 suites, 16 answers)"


def test_the_same_answers_give_the_same_report():
    scores = graded([0.1, 0.5, 0.9, 0.4]) + measured([1.0, 2.0, 4.0])
    assert Report(scores).records == Report(scores).records
    assert Report(scores).records[0].provenance == Provenance(**vars(ORIGIN))


def test_two_grades_of_one_judge_are_refused():
    with pytest.raises(MismatchError, match=r"grader said 'graded 7\.0' in one log and 'graded 2\.0' in another"):
        Report(graded([7.0]) + graded([2.0]))
    assert len((Report(graded([7.0])) + Report(graded([7.0]))).answers) == 1


def test_what_only_one_log_has_marked_is_kept():
    unmarked = tuple(replace(one, right=None) for one in marked([1, 0]))
    assert [one.right for one in Report(unmarked + marked([1, 0])).answers] == [True, False]
    with pytest.raises(MismatchError, match="the answer is right in one log and wrong in another"):
        Report(marked([1]) + marked([0]))


@pytest.mark.parametrize("checkpoints", [["tiny"], ["tiny", "small"]])
def test_where_no_outcome_was_measured_the_rest_is_written(tmp_path, checkpoints):
    words = "Of the suite g no outcome was measured"
    ungraded = tuple(
        replace(one, numbers={"seconds": 1.0})
        for name in checkpoints
        for one in judged("cr", "g", "graded", checkpoint=name)
    )
    report = Report(ungraded)
    folder = report.save(tmp_path / "run")
    assert words in (folder / "table.md").read_text()
    assert "### Cost" in (folder / "table.md").read_text()
    assert not (folder / "table.tex").exists()
    with pytest.raises(InputError, match=words):
        report.latex()
    beside = Report(ungraded + judged("cr", checkpoint="tiny")).markdown()
    assert words in beside
    assert "Of the suite s " not in beside


def test_a_row_of_latex_begins_with_no_argument_of_the_row_before():
    text = Report(judged("cr", defence="[a]") + judged("cr", defence="*b")).latex()
    assert "\n{}[a] & " in text
    assert "\n{}*b & " in text


def test_epochs_are_said_to_be_no_new_prompts():
    again = tuple(replace(one, id=f"{one.id}, epoch 2") for one in judged("cr"))
    assert (
        "Prompts were asked several times (epochs), and n counts every answer" in Report(judged("cr") + again).latex()
    )
    assert "epochs" not in Report(judged("cr")).latex()
