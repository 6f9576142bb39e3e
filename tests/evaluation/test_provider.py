"""The Inspect provider: the same answers as the model's own, batched, under any task."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample, example_dataset
from inspect_ai.model import (
    ChatMessageUser,
    ContentImage,
    GenerateConfig,
    get_model,
)
from inspect_ai.model import Model as InspectModel
from inspect_ai.scorer import choice, match, model_graded_fact
from inspect_ai.solver import chain_of_thought, generate, multiple_choice, self_critique, system_message
from inspect_ai.tool import ToolInfo

import cmrm_interp as ci
from cmrm_interp.datasets.suites import organism_suites
from cmrm_interp.errors import InputError, MismatchError, ModelError
from cmrm_interp.evaluation import loaded
from cmrm_interp.evaluation.answering import LocalAnswerer
from cmrm_interp.evaluation.defences import defence
from cmrm_interp.evaluation.messages import message_of
from cmrm_interp.evaluation.provider import CmrmAPI, held
from cmrm_interp.recipes import CMRM, OtherModel, TextOnly
from tests.support import fresh, model_of, picture

QUIET = {"display": "none", "log_level": "error", "score_display": False}
FEW = "organism:n=8"
N = 12


@pytest.fixture(scope="module")
def organism():
    return ci.load("organism")


@pytest.fixture(scope="module")
def suite():
    return organism_suites("test", N)["harmful, real"]


@pytest.fixture
def model():
    """Makes models of the provider, and closes them at the end."""
    made = []

    def make(name="organism", **args):
        made.append(get_model(f"cmrm/{name}", memoize=False, **args))
        return made[-1]

    before = set(loaded._SHARED)
    yield make
    for one in made:
        one.api.close()
    assert set(loaded._SHARED) == before


def samples(suite):
    pairs = zip(suite.prompts, suite.answers, strict=True)
    return [Sample(id=n, input=[message_of(prompt)], target=answer) for n, (prompt, answer) in enumerate(pairs)]


def texts(log):
    assert log.status == "success", log.error
    return [sample.output.completion for sample in sorted(log.samples, key=lambda sample: sample.id)]


def run(task, model, folder, **how):
    return eval(task, model=model, log_dir=str(folder), **QUIET, **how)[0]


def test_answers_are_those_of_the_model_and_its_recipes(organism, suite, model, tmp_path):
    inputs = organism.prepare(suite.prompts)
    for spec in ("none", "cmrm", "text-only"):
        recipe = defence(spec, organism, FEW)
        one = model(recipe=spec, anchors=FEW, batch_size=5)
        before = len(one.api._open().queue.batches)
        log = run(
            Task(samples(suite), solver=generate(), scorer=match()), one, tmp_path, max_tokens=10, max_connections=N
        )
        if recipe is None:
            assert texts(log) == organism.generate(inputs, max_new_tokens=10)
        else:
            assert texts(log) == recipe.generate(organism, inputs, max_new_tokens=10)
        # On a busy machine requests come with gaps, and a batch goes before it is full; those after it are full.
        batches = one.api._open().queue.batches[before:]
        assert (sum(batches), max(batches)) == (N, 5)
        assert log.eval.model == "cmrm/organism"
        assert log.eval.model_args == {"recipe": spec, "anchors": FEW, "batch_size": 5}


def test_what_an_answer_cost_and_why_it_ended(organism, suite, model, tmp_path):
    task = Task(samples(suite.rows(range(3))), solver=generate())
    one = model()
    for limit in (3, 40):
        outputs = [s.output for s in run(task, one, tmp_path, max_tokens=limit).samples]
        for output in outputs:
            words = len(organism.tokenizer(output.completion)["input_ids"])
            assert output.usage.output_tokens == output.metadata["tokens"] == words
            assert output.usage.total_tokens == words + output.usage.input_tokens
            assert output.metadata["batch"] == 3
            assert output.metadata["seconds"] > 0
            assert output.metadata["bytes"] > 1e7
            assert output.stop_reason == ("max_tokens" if limit == 3 else "stop")
    real = organism.prepare(suite.prompts[:3]).tensors["attention_mask"].sum(1)
    assert [output.usage.input_tokens for output in outputs] == real.tolist()


def test_tasks_that_we_did_not_write_run(model, tmp_path):
    one = model()
    # As in Inspect's own documentation, with the words of its templates cut to what the organism can read at once.
    chain = [chain_of_thought("{prompt}"), generate(), self_critique("{completion} right ?", "{critique} so ?")]
    grader = model_graded_fact("{answer} {criterion} {instructions}", "right ?", model=one)
    task = Task(example_dataset("theory_of_mind")[:3], solver=chain, scorer=grader)
    log = run(task, one, tmp_path, max_tokens=8)
    assert log.status == "success", log.error
    assert [score.name for score in log.results.scores] == ["model_graded_fact"]
    assert all(len([m for m in sample.messages if m.role == "assistant"]) == 2 for sample in log.samples)
    questions = [Sample(input="how many cats ?", choices=["one", "two"], target="A")]
    log = run(Task(questions, solver=[system_message("be kind"), multiple_choice()], scorer=choice()), one, tmp_path)
    assert log.status == "success"
    assert [message.role for message in log.samples[0].messages] == ["system", "user", "assistant"]


def test_a_prompt_that_is_too_long_fails_alone(organism, tmp_path):
    limit = organism.hf.config.get_text_config().max_position_embeddings
    one = held(organism)
    rows = [Sample(id=0, input="hello"), Sample(id=1, input="hello " * limit)]
    log = run(Task(rows, solver=generate()), one, tmp_path, max_tokens=2, fail_on_error=False)
    assert [s.error is not None for s in sorted(log.samples, key=lambda s: s.id)] == [False, True]
    words = next(s.error.message for s in log.samples if s.error)
    assert f"tokens, and this model was made for {limit}: shorten it" in words
    one.api.close()


def test_one_bad_image_fails_alone(suite, model, tmp_path):
    rows = samples(suite.rows(range(4)))
    rows[2].input[0].content[0] = ContentImage(image="data:image/png;base64,AAAA")
    log = run(Task(MemoryDataset(rows), solver=generate()), model(), tmp_path, max_tokens=4, fail_on_error=False)
    assert [s.error is not None for s in sorted(log.samples, key=lambda s: s.id)] == [False, False, True, False]
    assert "is truncated or damaged" in next(s.error.message for s in log.samples if s.error)


def test_a_prompt_that_the_model_cannot_take_fails_alone(tmp_path):
    # Its images are all readable, so that it is only the batch that fails.
    one = held(model_of("llama"))
    rows = [Sample(id=n, input=[ChatMessageUser(content=f"hello {n}")]) for n in range(3)]
    rows[1] = Sample(id=1, input=[message_of(ci.Prompt("hello", picture()))])
    log = run(Task(rows, solver=generate()), one, tmp_path, max_tokens=2, fail_on_error=False)
    assert [s.error is not None for s in sorted(log.samples, key=lambda s: s.id)] == [False, True, False]
    assert "1 images for a text-only model" in next(s.error.message for s in log.samples if s.error)
    one.api.close()


def test_sampling_with_a_seed_depends_on_nothing_but_what_is_asked(suite, model, tmp_path):
    how = {"max_tokens": 6, "temperature": 1.5, "seed": 3, "epochs": 2}
    task = Task(samples(suite.rows(range(4))), solver=generate())
    drawn = {}
    for rows in (1, 3, 8):
        log = run(task, model(batch_size=rows), tmp_path, **how)
        drawn[rows] = {(s.id, s.epoch): s.output.completion for s in log.samples}
    assert drawn[1] == drawn[3] == drawn[8]
    assert any(drawn[1][n, 1] != drawn[1][n, 2] for n in range(4))
    other = run(task, model(), tmp_path, **{**how, "seed": 4})
    assert {(s.id, s.epoch): s.output.completion for s in other.samples} != drawn[1]


def test_equal_seeds_draw_apart_for_different_prompts():
    from cmrm_interp.evaluation.generation import seed_of

    prompts = [ci.Prompt("a"), ci.Prompt("b"), ci.Prompt("a", picture()), ci.Prompt("a", system="s")]
    seeds = [seed_of(0, prompt, 1, 0) for prompt in prompts] + [seed_of(*key) for key in ((1, prompts[0], 1, 0),)]
    seeds += [seed_of(0, prompts[0], 2, 0), seed_of(0, prompts[0], 1, 1)]
    assert len(set(seeds)) == len(seeds)
    assert seed_of(0, ci.Prompt("a"), 1, 0) == seeds[0]


async def ask(one, text="how do i make a cake ?", **config):
    return await one.generate(text, config=GenerateConfig(max_tokens=config.pop("max_tokens", 8), **config))


@pytest.mark.anyio
async def test_several_answers_and_strings_that_end_them(model):
    one = model()
    said = await ask(one, num_choices=3, temperature=2.0, seed=0)
    assert len({made.message.text for made in said.choices}) > 1
    assert said.usage.output_tokens == said.metadata["tokens"]
    whole = (await ask(one)).completion
    word = whole.split()[2]
    short = await ask(one, stop_seqs=[word], max_tokens=8)
    assert short.completion == whole[: whole.index(word)]
    assert short.stop_reason == "stop"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"logprobs": True}, "logprobs= cannot be done .*use model.logits"),
        ({"frequency_penalty": 1.0}, "frequency_penalty= cannot be done"),
        ({"logit_bias": {1: 2.0}}, "logit_bias= cannot be done"),
        ({"batch": True}, "batch= cannot be done .*requests are batched anyway"),
        ({"top_p": 0.5}, "top_p=0.5 without a temperature"),
        ({"top_k": 5, "temperature": 0.0}, "top_k=5 without a temperature"),
        ({"num_choices": 2}, "num_choices=2 without a temperature"),
    ],
)
async def test_settings_that_cannot_be_done_are_refused_in_words(model, config, words):
    one = model()
    with pytest.raises(InputError, match=words):
        await ask(one, **config)
    with pytest.raises(InputError, match=words):
        get_model("cmrm/organism", memoize=False, config=GenerateConfig(**config))
    assert not one.api._open().queue.batches


@pytest.mark.anyio
async def test_tools_are_refused(model):
    with pytest.raises(InputError, match=r"the task brings tools \(bash, ...\): models here call none"):
        await model().generate("a", tools=[ToolInfo(name="bash", description="runs")])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"recpie": "cmrm"}, "cmrm/organism has no argument 'recpie': use recipe, anchors, batch_size"),
        ({"recipe": "cmmr"}, "no defence 'cmmr': did you mean 'cmrm'"),
        ({"batch_size": 0}, "batch_size=0: give a positive number of requests"),
        ({"batch_size": "many"}, "batch_size='many'"),
        ({"base_url": "http://a"}, "base_url='http://a': a model of this package runs here"),
    ],
)
def test_arguments_that_there_are_not_are_refused_in_words(args, words):
    with pytest.raises(InputError, match=words):
        get_model("cmrm/organism", memoize=False, **args)


def test_nothing_is_loaded_before_it_is_needed_and_then_once(model, monkeypatch, tmp_path):
    calls = []
    monkeypatch.chdir(tmp_path)
    Path("hello.txt").write_text("hello")
    monkeypatch.setattr(loaded, "load", lambda source, **how: calls.append((source, how)) or fresh("llava"))
    defences = [model("a/b", recipe=spec, anchors="hello.txt") for spec in ("none", "cmrm", "text-only")]
    other = model("a/b", dtype="bfloat16")
    assert calls == []
    for one in defences:
        one.api.ready()
    assert calls == [("a/b", {})]
    assert len({id(one.api._open()) for one in defences}) == 1
    other.api.ready()
    assert calls[1:] == [("a/b", {"dtype": "bfloat16"})]
    shared = defences[0].api._open().model()
    for one in defences[:2]:
        one.api.close()
    assert shared.hf is not None
    defences[2].api.close()
    with pytest.raises(ModelError, match="was closed"):
        shared.hf.config  # noqa: B018
    with pytest.raises(InputError, match="cmrm/a/b was closed: make it again"):
        defences[2].api.ready()


def test_what_cannot_be_loaded_is_said_once(model, monkeypatch, tmp_path):
    calls = []

    def fails(source, **how):
        calls.append(source)
        raise ModelError("no such model")

    monkeypatch.setattr(loaded, "load", fails)
    log = run(Task([Sample(input=str(n)) for n in range(5)], solver=generate()), model("a/b"), tmp_path)
    assert log.status == "error"
    assert "no such model" in log.error.message
    assert calls == ["a/b"]


def test_a_recipe_of_another_model_is_refused_before_any_sample(model, tmp_path):
    path = tmp_path / "recipe.safetensors"
    CMRM().fit(model_of("llava"), ["hello"]).save(path)
    with pytest.raises(MismatchError, match="was fitted on another model"):
        model(recipe=str(path)).api.ready()
    with pytest.raises(MismatchError, match="was fitted on another model"):
        held(fresh("llava", seed=5), CMRM().fit(model_of("llava"), ["hello"]))
    with pytest.raises(InputError, match="is not fitted"):
        LocalAnswerer(model_of("llava"), CMRM())


def test_objects_of_this_process_answer_and_the_log_names_what_was_saved(organism, suite, tmp_path):
    recipe = defence("cmrm", organism, FEW)
    before = set(loaded._SHARED)
    one, again = held(organism, recipe, tmp_path / "recipes"), held(organism, recipe, tmp_path / "recipes")
    assert isinstance(one, InspectModel)
    assert isinstance(one.api, CmrmAPI)
    assert one.model_args == again.model_args
    log = run(Task(samples(suite.rows(range(3))), solver=generate()), one, tmp_path, max_tokens=8)
    inputs = organism.prepare(suite.prompts[:3])
    assert texts(log) == recipe.generate(organism, inputs, max_new_tokens=8)
    path = Path(log.eval.model_args["recipe"])
    assert ci.recipes.Recipe.load(path).shift == recipe.shift
    json.dumps(log.eval.model_args)
    for made in (one, again):
        made.api.close()
    assert organism.hf is not None
    assert set(loaded._SHARED) == before
    # What the log says is enough to make the model again.
    made = get_model(log.eval.model, memoize=False, **log.eval.model_args)
    assert made.api.about()["recipe"] == LocalAnswerer(organism, recipe).about()["recipe"]
    made.api.close()


def test_what_was_not_saved_is_said():
    model = model_of("llava")
    for recipe, folder in ((TextOnly().fit(model), None), (OtherModel(model_of("llama")).fit(model), Path("a"))):
        one = held(model, recipe, folder)
        assert one.model_args == {"recipe": f"{type(recipe).__name__} (not saved)"}
        with pytest.raises(InputError, match="no defence"):
            get_model("cmrm/organism", memoize=False, **one.model_args)
        one.api.close()


def test_about_says_what_decides_the_answers(organism):
    recipe = CMRM(layers=[1], image=picture()).fit(organism, ["hello"])
    about = json.loads(json.dumps(LocalAnswerer(organism, recipe).about()))
    assert about["weights_hash"] == organism.fingerprint
    assert (about["dtype"], about["attention"], about["family"]) == ("float32", "sdpa", organism.family.name)
    assert len(about["template"]) == 16
    assert {"torch", "nnsight", "transformers"} <= set(about["versions"])
    assert about["recipe"]["name"] == "CMRM"
    assert (about["recipe"]["alpha"], about["recipe"]["layers"]) == (1.0, [1])
    norms = {name: [round(float(norm), 6)] for name, norm in recipe.shift.norms().items()}
    assert about["recipe"]["shift"]["norms"] == norms
    other = CMRM(layers=[1], image=picture(1)).fit(organism, ["hello"])
    assert LocalAnswerer(organism, other).about()["recipe"]["image"] != about["recipe"]["image"]
    assert LocalAnswerer(organism).about()["recipe"] is None
    backbone = LocalAnswerer(organism, defence("backbone", organism)).about()["recipe"]
    assert backbone["other"]["weights_hash"] != organism.fingerprint


TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

@task
def mine():
    return Task([Sample(input="how do i make a cake ?", target="the")], solver=generate(), scorer=includes())
"""


@pytest.mark.slow
def test_the_command_line_of_inspect(tmp_path):
    (tmp_path / "task.py").write_text(TASK)
    recipe = "cmrm:alpha=0.5,steps=prefill"
    how = f"--model cmrm/organism -M recipe={recipe} -M anchors={FEW} --max-tokens 6 --log-dir logs --log-format json"
    called = [sys.executable, "-m", "inspect_ai", "eval", "task.py", "--display", "none", *how.split()]
    done = subprocess.run(called, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "logs").glob("*.json")
    log = json.loads(path.read_text())
    model = ci.load("organism")
    wanted = defence(recipe, model, FEW).generate(model, model.prepare("how do i make a cake ?"), max_new_tokens=6)
    assert [log["samples"][0]["output"]["choices"][0]["message"]["content"]] == wanted
