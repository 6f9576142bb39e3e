"""Logs read back: what an answer is made with, other people's logs, and judging again."""

import zipfile

import pytest
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, ModelAPI, ModelOutput, get_model, modelapi
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

import cmrm_interp as ci
from cmrm_interp.datasets.suites import Suite
from cmrm_interp.errors import ModelError, StoreError
from cmrm_interp.evaluation import evaluate
from cmrm_interp.evaluation.judging import judge_again
from cmrm_interp.families import tiny
from cmrm_interp.judges import Judge, Judgement, by_form
from cmrm_interp.prompts import Prompt
from cmrm_interp.reports.logs import answered
from tests.evaluation.scripted import REFUSAL, STEPS, Scripted


class Second(Judge):
    """Says of how many exchanges it was asked at once."""

    name = "second"

    def __init__(self):
        self.seen = []

    def judge(self, exchanges):
        self.seen += exchanges
        return [Judgement("unsafe" if one.answer == STEPS else "safe", "so it is", 0.5) for one in exchanges]


@modelapi(name="echo")
class Echo(ModelAPI):
    async def generate(self, input, tools, tool_choice, config):
        return ModelOutput.from_content(self.model_name, f"you say {input[-1].text}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model = ci.load(tiny("llava"))
    prompts = tuple(Prompt(f"what is this ? {row}", system="be kind") for row in range(4))
    about = tuple({"category": row % 2} for row in range(4))
    suite = Suite("s", "harmful", prompts, (STEPS,) * 4, about=about, split="test", source={"file": "x.csv"})
    made = tmp_path_factory.mktemp("run")
    recipe = Scripted((STEPS, REFUSAL), model=model.fingerprint)
    evaluate(model, {"d": recipe}, {"s": suite}, by_form, out=made, max_new_tokens=5, do_sample=True, seed=3)
    return made, model


def test_an_answer_says_what_it_was_made_with(folder):
    made, model = folder
    first, second = answered(made)[:2]
    assert (first.checkpoint, first.defence, first.suite, first.kind, first.id) == (
        model.name,
        "d",
        "s",
        "harmful",
        "1",
    )
    assert (first.request, first.answer, second.answer) == ("what is this ? 0", STEPS, REFUSAL)
    assert [one.judgements["by_form"].verdict for one in (first, second)] == ["complied", "refused"]
    assert (first.right, second.right) == (True, False)
    assert first.about["category"] == 0
    assert first.numbers["words"] == len(STEPS.split())
    assert first.numbers["seconds"] >= 0
    origin = first.provenance
    assert (origin.weights_hash, origin.seed) == (model.fingerprint, 3)
    assert origin.versions.keys() >= {"cmrm_interp", "torch", "transformers", "nnsight", "inspect_ai"}
    settings = origin.settings
    assert (settings["system"], settings["split"], settings["source"]) == ("be kind", "test", {"file": "x.csv"})
    assert settings["recipe"]["name"] == "Scripted"
    assert settings["decoding"]["max_tokens"] == 5
    assert settings["decoding"]["temperature"] == 1.0
    assert settings.keys() >= {"dtype", "attention"}


def test_logs_are_named_by_file_folder_or_pattern(folder):
    made, _ = folder
    (file,) = made.glob("*.eval")
    for paths in (made, file, str(made / "*.eval"), [file, made], str(made.parent / f"{made.name[:-1]}*")):
        assert len(answered(paths)) == 4
    with pytest.raises(StoreError, match=r"nothing matches .*y\*"):
        answered(made / "y*")


def test_another_judge_has_its_say_without_the_model(folder, tmp_path):
    made, _ = folder
    (file,) = made.glob("*.eval")
    copy = tmp_path / file.name
    copy.write_bytes(file.read_bytes())
    judge = Second()
    assert judge_again(copy, judge) == [copy]
    assert len(judge.seen) == 4
    assert judge.seen[0].reference == STEPS
    said = answered(copy)
    assert [one.judgements["second"].verdict for one in said] == ["unsafe", "safe", "unsafe", "safe"]
    assert said[0].judgements["second"] == Judgement("unsafe", "so it is", 0.5)
    assert said[0].judgements["by_form"].verdict == "complied"
    assert judge_again(copy, judge) == []
    assert len(judge.seen) == 4


def test_what_a_judge_could_not_say_is_asked_again(folder, tmp_path, monkeypatch):
    made, _ = folder
    (file,) = made.glob("*.eval")
    copy = tmp_path / file.name
    copy.write_bytes(file.read_bytes())

    class Absent(Second):
        there = 0

        def judge(self, exchanges):
            if any(self.there <= int(exchange.request.split()[-1]) for exchange in exchanges):
                raise ModelError("no such checkpoint")
            return super().judge(exchanges)

    judge = Absent()
    with (
        pytest.warns(UserWarning, match="is not there"),
        pytest.raises(ModelError, match=r"judged none of the 4 answers .*no such checkpoint"),
    ):
        judge_again(copy, judge)
    assert copy.read_bytes() == file.read_bytes()
    judge.there = 3
    with pytest.warns(UserWarning, match="an answer is unjudged"):
        assert judge_again(copy, judge) == [copy]
    assert [one.judgements["second"].verdict for one in answered(copy)][-1] == "unjudged"
    judge.there = 4
    assert judge_again(copy, judge) == [copy]
    assert "unjudged" not in [one.judgements["second"].verdict for one in answered(copy)]
    assert judge_again(copy, judge) == []


def test_a_judge_that_is_stopped_leaves_the_log_whole(folder, tmp_path):
    made, _ = folder
    (file,) = made.glob("*.eval")
    copy = tmp_path / file.name
    copy.write_bytes(file.read_bytes())

    class Stopped(Second):
        def judge(self, exchanges):
            raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017, PT011 - however it comes out of the event loop
        judge_again(copy, Stopped())
    assert copy.read_bytes() == file.read_bytes()


def test_a_task_that_is_not_ours_is_read_and_judged(tmp_path):
    samples = [
        Sample(id=n, input=[ChatMessageSystem(content="s"), ChatMessageUser(content=f"q{n}")], target="q1")
        for n in (1, 2)
    ]
    task = Task(MemoryDataset(samples), solver=generate(), scorer=includes(), name="theirs")
    eval(task, model=get_model("echo/x"), log_dir=str(tmp_path), display="none")
    judge_again(tmp_path, by_form)
    one, two = answered(tmp_path)
    assert (one.suite, one.defence, one.checkpoint, one.id, one.request) == ("theirs", "none", "x", "1", "q1")
    assert (one.answer, one.right, two.right) == ("you say q1", True, False)
    assert one.judgements["by_form"].verdict == "neither"
    assert one.provenance.settings["system"] == "s"


def test_what_is_no_log_is_said(tmp_path):
    (tmp_path / "a.eval").write_bytes(b"PK none")
    with pytest.raises(StoreError, match=r"a\.eval cannot be read as a log .*another version"):
        answered(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.eval", "w") as file:
        file.writestr("header.json", '{"version": 99}')
    with pytest.raises(StoreError, match=r"a\.eval cannot be read as a log"):
        answered(tmp_path)
