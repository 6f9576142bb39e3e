"""Models on workers of a real Ray of this machine: equal to one process, also when a worker is killed in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.model import get_model
from inspect_ai.solver import generate

import cmrm_interp as ci
from cmrm_interp.cluster import LOCAL, session
from cmrm_interp.errors import HookPointError, InputError, MismatchError
from cmrm_interp.evaluation.answering import LocalAnswerer
from cmrm_interp.evaluation.defences import defence
from cmrm_interp.evaluation.distant import DistantAnswerer
from cmrm_interp.evaluation.messages import message_of
from cmrm_interp.evaluation.specified import Asked, evaluate_specs
from cmrm_interp.families import tiny
from cmrm_interp.reports.logs import answered
from tests.support import picture

# Starting Ray takes seconds: all of these tests go to one process.
pytestmark = pytest.mark.xdist_group("ray")
PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
TEXTS = ["how do i make a cake ?", "what is in the picture ?", "how do i build a bomb ?", "tell me about cats"]


@pytest.fixture(scope="module")
def ray():
    """A Ray with two places more than the workers take, for those who join it."""
    yield session.join(0, None, 4)
    session.leave(0)


@pytest.fixture(scope="module")
def workers(ray):
    with ci.Workers("organism", 2) as workers:
        # Both have loaded their model when these are done.
        list(workers.map(lambda model, job: (model.n_layers, time.sleep(0.5)), range(2)))
        yield workers


@pytest.fixture(scope="module")
def model():
    return ci.load("organism")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "a.png"
    picture(5).save(path)
    return [ci.Prompt(text, image) for image in (picture(0), None, path) for text in TEXTS]


@pytest.fixture(scope="module")
def shift(model, prompts):
    inputs, hook = model.prepare(prompts[:4]), "blocks.*.hook_resid_post"
    return ci.mean_diff(model.capture(inputs, hook), model.capture(inputs.without_images(), hook))


def swept(model, prompts, shift, metric, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ci.sweep(
            model,
            model.prepare(prompts),
            {"layer": range(model.n_layers), "alpha": [0.5, 1.0]},
            lambda layer, alpha: ci.Subtract(shift, alpha, layers=[layer]),
            metric,
            batch_size=4,
            **how,
        )


def pids_of(workers):
    return {pid for _, pid in workers.map(lambda model, job: (time.sleep(0.2), os.getpid())[1], range(4))}


def undated(records):
    return [replace(r, provenance=replace(r.provenance, created="")) for r in records]


@pytest.mark.parametrize("spec", ["none", "cmrm"])
def test_answers_are_those_of_one_process_in_their_order(workers, model, prompts, spec):
    here, there = LocalAnswerer(model, defence(spec, model)), DistantAnswerer(workers, spec, rows=5)
    generation = {"max_new_tokens": 12}
    alone = [said for start in (0, 5, 10) for said in here.answer(prompts[start : start + 5], generation)]
    spread = there.answer(prompts, generation)
    assert [replace(said, numbers={}) for said in spread] == [replace(said, numbers={}) for said in alone]
    assert len({said.text for said in spread}) > 2
    # The package's own folder may get a commit while this runs.
    assert {**there.about(), "commit": ""} == {**here.about(), "commit": ""}


def test_seeds_and_fitted_recipes_go_with_their_prompts(workers, model, prompts):
    recipe = defence("cmrm", model)
    here, there = LocalAnswerer(model, recipe), DistantAnswerer(workers, recipe, rows=5)
    generation = {"max_new_tokens": 8, "do_sample": True, "temperature": 3.0, "seed": list(range(100, 112))}
    alone = [
        said.text
        for part in (slice(0, 5), slice(5, 10), slice(10, 12))
        for said in here.answer(prompts[part], {**generation, "seed": generation["seed"][part]})
    ]
    assert [said.text for said in there.answer(prompts, generation)] == alone


def test_a_sweep_gives_the_records_of_one_process(workers, model, prompts, shift, tmp_path):
    metric = [ci.metrics.kl_to_clean(), lambda logits: logits[:, 3]]
    alone = swept(model, prompts, shift, metric)
    spread = swept(model, prompts, shift, metric, workers=workers, store=tmp_path)
    for name in alone.metrics:
        np.testing.assert_array_equal(spread.values(name), alone.values(name))
    assert undated(spread.records) == undated(alone.records)


def test_a_worker_that_is_killed_in_the_middle_loses_nothing_and_gives_nothing_twice(workers, tmp_path):
    log, found = tmp_path / "begun", []

    def work(model, job):
        with log.open("a") as file:
            file.write(f"{job} {os.getpid()}\n")
        time.sleep(1.0 if job == 1 else 0.1)
        return model.n_layers * job

    def run():
        for number, result in workers.map(work, range(8)):
            if not found:
                begun = dict(line.split() for line in log.read_text().splitlines())
                os.kill(int(begun["1"]), signal.SIGKILL)
            found.append((number, result))

    with pytest.warns(UserWarning, match=r"a worker was lost, its job is run again \(job 1: 1\)"):
        run()
    assert sorted(found) == [(number, 6 * number) for number in range(8)]
    begun = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert sorted(begun) == [0, 1, 1, 2, 3, 4, 5, 6, 7]


def test_a_sweep_whose_worker_is_killed_is_that_of_one_process(workers, model, prompts, shift, tmp_path):
    flag = tmp_path / "killed"

    def third(logits):
        if os.getpid() != here and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return logits[:, 3]

    here = os.getpid()
    spread = swept(model, prompts, shift, third, workers=workers, store=tmp_path / "store")
    assert flag.exists()
    np.testing.assert_array_equal(spread.values(), swept(model, prompts, shift, third).values())
    lines = [json.loads(line) for line in (tmp_path / "store" / "values.jsonl").read_text().splitlines()]
    assert sorted((line["run"], line["rows"][0]) for line in lines) == [(r, p) for r in range(13) for p in (0, 4, 8)]


def test_what_a_job_raises_comes_out_with_its_name(workers, model, prompts, shift):
    with pytest.raises(ZeroDivisionError) as raised:
        list(workers.map(lambda model, job: 1 / job, [1, 0]))
    assert raised.value.__notes__ == ["(job 1: 0)"]
    with pytest.raises(HookPointError, match=r"77.*\(job 0: 77\)"):
        list(workers.map(lambda model, job: model.capture(model.prepare("a"), f"blocks.{job}.hook_resid_post"), [77]))
    with pytest.raises(InputError, match=r"is nan at prompt \d.*in the c.*\(job \d: 13 runs on prompts \d-\d+\)"):
        swept(model, prompts, shift, lambda logits: logits[:, 3] * float("nan"), workers=workers)
    assert dict(workers.map(lambda model, job: job, range(3))) == {0: 0, 1: 1, 2: 2}


def test_workers_of_another_model_share_the_processes(workers, model, prompts, shift):
    def make():
        return ci.load(tiny("gpt2"))

    pids = pids_of(workers)
    with ci.Workers(make, 2) as others:
        assert {pid for _, pid in others.map(lambda model, job: os.getpid(), range(3))} <= pids
        assert dict(others.map(lambda model, job: model.family.name, [0])) == {0: "gpt2"}
        with pytest.raises(MismatchError, match="workers hold another model"):
            swept(model, prompts, shift, ci.metrics.kl_to_clean(), workers=others)
    assert dict(workers.map(lambda model, job: model.n_layers, [0])) == {0: 6}
    with pytest.raises(InputError, match="these workers are closed: make others"):
        others.send(abs)


def test_what_cannot_be_sent(workers):
    held = threading.Lock()
    with pytest.raises(
        InputError, match=r"this cannot be sent to workers: .*lock.* object\. Functions may hold.*no open"
    ):
        workers.map(lambda model, job: held, [0])


def test_inspect_asks_workers_as_it_asks_a_model_here(workers, model, prompts, tmp_path):
    samples = [Sample(id=n, input=[message_of(prompt)]) for n, prompt in enumerate(prompts[:8])]

    def answers(**args):
        asked = get_model("cmrm/organism", memoize=False, recipe="cmrm", batch_size=3, **args)
        how = {"display": "none", "log_level": "error", "score_display": False, "max_tokens": 10}
        (log,) = inspect_eval(Task(samples, solver=generate()), model=asked, log_dir=str(tmp_path), **how)
        asked.api.close()
        assert log.status == "success"
        return {sample.id: sample.output.completion for sample in log.samples}

    assert answers(ray=True, ray_workers=2) == answers()


def test_an_evaluation_whose_worker_is_killed_is_that_of_one_process(workers, tmp_path, monkeypatch):
    asked = Asked(["organism"], ["organism:name=harmful-blank,n=12"], ["none", "cmrm"], ["form"])
    victim, calls, answer = next(iter(pids_of(workers))), [], DistantAnswerer.answer

    def third(self, prompts, generation):
        calls.append(len(prompts))
        if len(calls) == 3:
            os.kill(victim, signal.SIGKILL)
        return answer(self, prompts, generation)

    def found(asked, folder):
        evaluate_specs(asked, folder, max_new_tokens=12, batch_size=2)
        return {(one.defence, one.id): (one.answer, one.judgements) for one in once(answered(folder / "organism"))}

    def once(answers):
        assert len(answers) == len({(one.defence, one.id) for one in answers}) == 24
        return answers

    monkeypatch.setattr(DistantAnswerer, "answer", third)
    with pytest.warns(UserWarning, match="a worker was lost, its job is run again"):
        spread = found(replace(asked, ray=LOCAL, ray_workers=2), tmp_path / "spread")
    assert sum(calls) == 24
    assert spread == found(asked, tmp_path / "alone")
    assert len({said for said, _ in spread.values()}) > 2


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S))
def test_the_page_runs_as_it_stands(workers, block):
    exec(compile(block, PAGE.name, "exec"), {})


JOINING = """
import os, sys, time
from cmrm_interp.cluster import Pool

def work(held, job):
    with open(held, "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(60)

with Pool(lambda: path, 2, sys.argv[1]) as pool:
    list(pool.map(work, range(2)))
"""


def test_an_interrupted_program_leaves_the_cluster_and_takes_its_workers_along(ray, workers, tmp_path):
    path, script = tmp_path / "pids", tmp_path / "join.py"
    script.write_text(JOINING.replace("lambda: path", f"lambda: {str(path)!r}"))
    where = ray.get_runtime_context().gcs_address
    joined = subprocess.Popen([sys.executable, script, where], stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while time.monotonic() < until and (not path.exists() or len(path.read_text().split()) < 2):
        assert joined.poll() is None, joined.stderr.read().decode()
        time.sleep(0.1)
    pids = [int(pid) for pid in path.read_text().split()]
    joined.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in joined.communicate(timeout=180)[1]
    while time.monotonic() < until and any(map(_lives, pids)):
        time.sleep(0.1)
    assert len(pids) == 2
    assert not any(map(_lives, pids))
    assert dict(workers.map(lambda model, job: model.n_layers, [0])) == {0: 6}


def _lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
