"""evaluate: what is answered and judged comes back, stays in the folder, and is not done again."""

import asyncio
import json
import threading
import warnings

import pytest
from PIL import Image

import cmrm_interp as ci
from cmrm_interp.datasets.suites import Suite
from cmrm_interp.errors import InputError, MismatchError, StoreError
from cmrm_interp.evaluation import evaluate, running
from cmrm_interp.evaluation.samples import dataset_of
from cmrm_interp.families import tiny
from cmrm_interp.intervals import wilson
from cmrm_interp.judges import by_form, by_substrings
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes import CMRM
from cmrm_interp.reports.logs import answered
from tests.evaluation.scripted import ASKED, CAPTION, REFUSAL, STEPS, Scripted
from tests.support import unchecked


@pytest.fixture(scope="module")
def model():
    return ci.load(tiny("llava"))


@pytest.fixture(scope="module")
def says(model):
    return lambda *answers, **more: Scripted(answers, model=model.fingerprint, **more)


def suite(kind="harmful", n=4, answers=None, **more):
    return Suite("s", kind, tuple(Prompt(f"what is this ? {row}") for row in range(n)), answers, **more)


def shares(report):
    return {record.metric: record.value for record in report.outcomes}


def test_harmful_answers_are_counted_by_what_they_are(says):
    report = evaluate(ci.load(tiny("llava")), {"d": says(STEPS, REFUSAL, STEPS, CAPTION)}, {"s": suite()}, by_form)
    assert shares(report) == {"unsafe": 0.5, "refused": 0.25, "neither": 0.25}


def test_benign_answers_count_refusals_and_right_ones(model, says):
    report = evaluate(model, {"d": says(STEPS, REFUSAL)}, {"s": suite("benign", 4, (STEPS,) * 4)}, by_form)
    assert shares(report) == {"over-refused": 0.5, "neither": 0.0, "right": 0.5}


def test_rates_carry_n_interval_and_the_model(model, says):
    record = evaluate(model, {"d": says(STEPS, REFUSAL)}, {"s": suite(n=10)}, by_form).records[0]
    assert (record.n, (record.low, record.high)) == (10, wilson(5, 10))
    assert record.provenance.weights_hash == model.fingerprint
    assert record.provenance.settings["decoding"]["max_tokens"] == 64


def test_no_defence_is_the_model_itself_with_images_too(model):
    picture = Image.new("RGB", (20, 20), "red")
    asked = Suite("s", "harmful", (Prompt("look .", picture), Prompt("look .", system="be kind"), Prompt("say it .")))
    report = evaluate(model, {"none": None}, {"s": asked}, by_form, max_new_tokens=3)
    alone = [model.generate(model.prepare([prompt]), max_new_tokens=3)[0] for prompt in asked.prompts]
    assert [one.answer for one in report.answers] == alone
    assert [one.id for one in report.answers] == ["1", "2", "3"]


def test_order_of_defences_and_suites_is_the_one_given(model, says):
    suites = {name: suite(n=2) for name in ("z", "a", "m")}
    report = evaluate(model, {"z": says(STEPS), "a": says(REFUSAL)}, suites, by_form)
    table = report.table(intervals=False)
    assert list(table.index) == ["z", "a"]
    assert list(dict.fromkeys(name for name, _ in table.columns)) == ["z", "a", "m"]
    assert list(table[("z", "unsafe")]) == ["100.0", "0.0"]


def test_several_judges_have_their_say(model, says):
    report = evaluate(model, {"d": says(CAPTION)}, {"s": suite(n=2)}, [by_form, by_substrings])
    said = {name: one.verdict for name, one in report.answers[0].judgements.items()}
    assert said == {"by_form": "neither", "by_substrings": "complied"}


def test_what_is_done_is_not_done_again(model, says, tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    monkeypatch.setenv(ASKED, str(asked))
    recipe = says(STEPS, REFUSAL)
    first, second = (evaluate(model, {"d": recipe}, {"s": suite()}, by_form, out=tmp_path / "x") for _ in range(2))
    assert len(asked.read_text().splitlines()) == 4
    assert [one.answer for one in first.answers] == [one.answer for one in second.answers]
    assert len(list((tmp_path / "x").glob("*.eval"))) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"judge": by_substrings}, "judges"),
        ({"suites": {"s": suite(n=3)}}, "suites"),
        ({"max_new_tokens": 7}, "generation.max_tokens: 64 there, 7 here"),
        ({"suites": {"other": suite()}}, "suites"),
    ],
)
def test_a_folder_is_not_gone_on_with_under_other_settings(model, says, tmp_path, change, words):
    how = {"suites": {"s": suite()}, "judge": by_form}
    evaluate(model, {"d": says(STEPS)}, **how, out=tmp_path)
    with pytest.raises(MismatchError, match=f"other settings .*{words}.*choose another folder"):
        evaluate(model, {"d": says(STEPS)}, **(how | change), out=tmp_path)


def test_another_recipe_of_the_same_name_is_another_evaluation(model, says, tmp_path):
    evaluate(model, {"d": says(STEPS)}, {"s": suite()}, by_form, out=tmp_path)
    with pytest.raises(MismatchError, match=r"models\..*recipe"):
        evaluate(model, {"d": says(REFUSAL)}, {"s": suite()}, by_form, out=tmp_path)


def test_a_folder_of_other_logs_is_refused(model, says, tmp_path):
    (tmp_path / "2026_x.eval").write_bytes(b"")
    with pytest.raises(MismatchError, match="holds logs of something else"):
        evaluate(model, {"d": says(STEPS)}, {"s": suite()}, by_form, out=tmp_path)


def test_damaged_settings_of_a_folder_are_said(model, says, tmp_path):
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(StoreError, match=r"evaluation\.json cannot be read"):
        evaluate(model, {"d": says(STEPS)}, {"s": suite()}, by_form, out=tmp_path)


def test_bad_arguments_are_said_before_anything_runs(model, says):
    with pytest.raises(InputError, match="at least one defence"):
        evaluate(model, {}, {"s": suite()})
    with pytest.raises(InputError, match="no argument 'num_beams': use max_new_tokens"):
        evaluate(model, {"d": None}, {"s": suite()}, num_beams=3)
    with pytest.raises(InputError, match="do_sample=True"):
        evaluate(model, {"d": None}, {"s": suite()}, temperature=0.7)
    with pytest.raises(InputError, match="told apart by their names"):
        evaluate(model, {"d": None}, {"s": suite()}, [by_form, by_form])
    with pytest.raises(InputError, match="not fitted"):
        evaluate(model, {"d": CMRM()}, {"s": suite()})


def test_a_recipe_is_not_scored_on_its_own_anchors(model):
    recipe = CMRM(image="blank").fit(model, [prompt.text for prompt in suite().prompts[:2]])
    with pytest.raises(InputError, match=r"2 of the 4 prompts of 's' are anchors.*ids 1, 2"):
        evaluate(model, {"d": recipe}, {"s": suite()}, by_form)


def test_a_prompt_that_fails_is_said_and_the_others_go_on(model, says):
    with pytest.warns(UserWarning, match="1 of 4 prompts has no answer under d on s: .*out of memory"):
        report = evaluate(model, {"d": says(STEPS, broken="this ? 2")}, {"s": suite()}, by_form)
    assert [one.answer for one in report.answers] == [STEPS, STEPS, None, STEPS]
    assert "out of memory" in report.answers[2].error
    assert shares(report)["unsafe"] == 1


def test_where_every_prompt_fails_the_reason_is_raised(model, says):
    with pytest.raises(InputError, match=r"none of the 4 prompts was answered under d on s: .*out of memory"):
        evaluate(model, {"d": says(STEPS, broken="what")}, {"s": suite()}, by_form)


def test_in_a_running_event_loop_and_in_another_thread(model, says):
    found = []

    async def _inside():
        found.append(evaluate(model, {"d": says(STEPS)}, {"s": suite(n=2)}, by_form))

    asyncio.run(_inside())
    thread = threading.Thread(target=lambda: found.append(evaluate(model, {"d": says(STEPS)}, {"s": suite()}, by_form)))
    thread.start()
    thread.join()
    assert [shares(report)["unsafe"] for report in found] == [1.0, 1.0]


def test_nothing_is_printed_and_logging_is_left_as_it_was(model, says, capsys):
    import logging

    import rich

    before = list(logging.getLogger().handlers), logging.getLogger().level, rich.get_console().quiet
    evaluate(model, {"d": says(STEPS)}, {"s": suite(n=2)}, by_form)
    assert capsys.readouterr().out == ""
    assert (list(logging.getLogger().handlers), logging.getLogger().level, rich.get_console().quiet) == before


def test_the_folder_is_a_run_of_inspect(model, says, tmp_path):
    evaluate(model, {"CMRM": says(STEPS, REFUSAL)}, {"s": suite()}, by_form, out=tmp_path)
    from inspect_ai.log import list_eval_logs, read_eval_log

    (info,) = list_eval_logs(str(tmp_path))
    log = read_eval_log(info)
    assert (log.status, log.eval.task, log.eval.metadata["defence"]) == ("success", "s", "CMRM")
    metrics = log.results.scores[0].metrics
    assert metrics["unsafe"].value == 0.5
    assert metrics["unsafe_stderr"].value == pytest.approx((0.25 / 3) ** 0.5)
    assert json.loads((tmp_path / "evaluation.json").read_text())["judges"] == ["by_form"]
    with warnings.catch_warnings(action="error"):
        assert len(answered(tmp_path)) == 4


def test_a_run_is_gone_on_with_from_another_working_directory(model, tmp_path, monkeypatch):
    recipe = CMRM(image="blank").fit(model, ["say it .", "cut it ."])
    monkeypatch.chdir(tmp_path)
    counts = [
        len(evaluate(model, {"d": recipe}, {"s": suite()}, by_form, out=out, max_new_tokens=2).answers)
        for out in ("x", tmp_path / "x")
    ]
    assert counts == [4, 4]
    assert len(list((tmp_path / "x").glob("*.eval"))) == 1


def test_a_folder_that_was_moved_is_said(model, tmp_path):
    how = ({"d": CMRM(image="blank").fit(model, ["say it ."])}, {"s": suite()}, by_form)
    evaluate(model, *how, out=tmp_path / "x", max_new_tokens=2)
    (tmp_path / "x").rename(tmp_path / "y")
    with pytest.raises(MismatchError, match=r"y holds logs of other tasks, or was moved.*move it back"):
        evaluate(model, *how, out=tmp_path / "y", max_new_tokens=2)


def test_evaluations_inside_of_one_another_are_refused(model, says, tmp_path):
    evaluate(model, {"d": says(STEPS)}, {"s": suite()}, by_form, out=tmp_path / "x" / "inner")
    with pytest.raises(MismatchError, match=r"inner in .*x holds logs of something else"):
        evaluate(model, {"d": says(REFUSAL)}, {"s": suite()}, by_form, out=tmp_path / "x")
    with pytest.raises(MismatchError, match=r"lies in .*inner, which holds another evaluation"):
        evaluate(model, {"d": says(REFUSAL)}, {"s": suite()}, by_form, out=tmp_path / "x" / "inner" / "more")


def test_a_damaged_log_in_the_folder_is_said_and_asked_again_once_deleted(model, says, tmp_path):
    how = ({"d": says(STEPS)}, {"s": suite()}, by_form)
    evaluate(model, *how, out=tmp_path)
    (log,) = tmp_path.glob("*.eval")
    log.write_bytes(log.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"\.eval is damaged .*delete it.*asked again"):
        evaluate(model, *how, out=tmp_path)
    log.unlink()
    assert len(evaluate(model, *how, out=tmp_path).answers) == 4


def test_suites_whose_names_differ_in_their_signs_alone_are_two(model, says):
    report = evaluate(model, {"d": says(STEPS, REFUSAL)}, {"a b": suite(), "a-b": suite()}, by_form)
    assert [one.suite for one in report.answers] == ["a b"] * 4 + ["a-b"] * 4


def test_a_judge_that_was_changed_under_its_name_is_another(model, says, tmp_path):
    def mine(answer):
        return "refused"

    evaluate(model, {"d": says(STEPS)}, {"s": suite()}, mine, out=tmp_path)
    evaluate(model, {"d": says(STEPS)}, {"s": suite()}, mine, out=tmp_path)

    def mine(answer):
        return "complied"

    with pytest.raises(MismatchError, match=r"other settings \(judges' code\.mine"):
        evaluate(model, {"d": says(STEPS)}, {"s": suite()}, mine, out=tmp_path)


def test_another_process_in_the_same_folder_is_refused(model, says, tmp_path):
    from filelock import FileLock

    from cmrm_interp.evaluation.folders import LOCK

    with (
        FileLock(tmp_path / LOCK),
        pytest.raises(StoreError, match=r"another run is at work in .*wait until it ends, or choose another folder"),
    ):
        evaluate(model, {"d": says(STEPS)}, {"s": suite()}, by_form, out=tmp_path)
    assert len(evaluate(model, {"d": says(STEPS)}, {"s": suite()}, by_form, out=tmp_path).answers) == 4


def test_evaluations_of_several_threads_wait_for_one_another(model, says):
    found = []

    def _one(n):
        found.append(len(evaluate(model, {"d": says(STEPS, pause=0.2)}, {"s": suite(n=n)}, by_form).answers))

    threads = [threading.Thread(target=_one, args=(n,)) for n in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [2, 3]


def test_settings_that_cannot_be_are_said_before_the_folder_is_taken(model, tmp_path):
    with pytest.raises(InputError, match="without a temperature"):
        evaluate(model, {"d": None}, {"s": suite()}, out=tmp_path / "x", top_p=0.5)
    with pytest.raises(InputError, match="an empty text among stop_seqs"):
        evaluate(model, {"d": None}, {"s": suite()}, out=tmp_path / "x", stop_strings=[""])
    assert not (tmp_path / "x").exists()


def test_pictures_are_held_once_for_all_defences(model, says, monkeypatch):
    made = []
    monkeypatch.setattr(running, "dataset_of", lambda suite: made.append(suite.name) or dataset_of(suite))
    evaluate(model, {"a": says(STEPS), "b": says(REFUSAL)}, {"s": suite(), "t": suite()}, by_form)
    assert made == ["s", "t"]


def test_the_name_of_a_model_is_no_model():
    with unchecked(), pytest.raises(InputError, match=r"takes a loaded model, not 'organism': give it ci\.load"):
        evaluate("organism", {"none": None}, {"s": suite()})  # type: ignore[arg-type]


def test_fluency_is_measured_where_it_is_asked_for(model, says, tmp_path):
    asked, defences = {"s": suite(n=2)}, {"none": None, "said": says(REFUSAL, STEPS)}
    report = evaluate(model, defences, asked, by_form, measures=["fluency"], max_new_tokens=3, out=tmp_path)
    found = {(a.defence, name): number for a in report.answers for name, number in a.numbers.items()}
    assert found["said", "perplexity"] > 1
    assert found["none", "kl"] == pytest.approx(0, abs=1e-5), "the model is not far from itself"
    assert ("said", "kl") not in found, "words that were put in have no distribution"
    with pytest.raises(InputError, match=r"no measure 'speed': use 'fluency'"):
        evaluate(model, {"none": None}, asked, by_form, measures=["speed"])
    with pytest.raises(MismatchError):
        evaluate(model, defences, asked, by_form, max_new_tokens=3, out=tmp_path)
