"""Sweeps against the plain loop; folders that resume; and what is refused, before anything runs."""

import json
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cmrm_interp as ci
from cmrm_interp import judges, metrics
from cmrm_interp.errors import HookPointError, InputError, MismatchError, StoreError
from cmrm_interp.intervals import wilson
from cmrm_interp.records import read
from cmrm_interp.signature import Signer
from cmrm_interp.sweeps import run as running
from tests.support import TEXTS, close, inputs_of, model_of, picture, unchecked, vectors

FEW = ("llava", "qwen2_vl", "gpt2", "gemma3", "paligemma")
LAYERS, ALPHAS = (0, 1), (0.0, 0.5, 2.0)


@pytest.fixture(scope="module")
def model():
    return model_of("llava")


@pytest.fixture(scope="module")
def inputs(model):
    return inputs_of(model)


def third(logits):
    return logits[:, 3]


def subtracting(model, positions="last"):
    shift = vectors(model, scale=0.5)
    return lambda layer, alpha: ci.Subtract(shift, alpha, positions, layers=[layer])


def swept(model, inputs, metric=third, positions="last", **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        over = {"layer": LAYERS, "alpha": ALPHAS}
        return ci.sweep(model, inputs, over, subtracting(model, positions), metric, **how)


@pytest.fixture
def counted(monkeypatch):
    """Numbers of variants and prompts of each call of the engine."""
    calls, run = [], running.run_variants

    def counting(network, encoder, batch, variants, wants):
        calls.append((len(variants), len(batch.rows)))
        return run(network, encoder, batch, variants, wants)

    monkeypatch.setattr(running, "run_variants", counting)
    return calls


@pytest.mark.parametrize("family", FEW)
@pytest.mark.parametrize("positions", ["last", "text"])
def test_every_cell_is_what_the_plain_loop_gives(family, positions):
    model = model_of(family)
    inputs, make = inputs_of(model), subtracting(model, positions)
    kl, hook = metrics.kl_to_clean(), "blocks.-1.hook_resid_post"
    probe = metrics.probe_score(lambda acts: acts[:, 2], hook)
    result = swept(model, inputs, [third, kl, probe, metrics.perplexity()], positions)
    clean, tokens = model.logits(inputs).float(), inputs.batch(slice(0, 3)).tokens
    for a, layer in enumerate(LAYERS):
        for b, alpha in enumerate(ALPHAS):
            acting = make(layer, alpha)
            logits = model.logits(inputs, acting).float()
            close(torch.tensor(result.values("third")[a, b]).float(), logits[:, 3])
            close(
                torch.tensor(result.values("kl_to_clean")[a, b]), kl.measure(metrics.Seen(logits, clean=clean)).double()
            )
            seen = metrics.Seen(model.logits(inputs, acting, "all"), tokens=tokens)
            close(torch.tensor(result.values("perplexity")[a, b]).float(), metrics.perplexity().measure(seen).float())
            state = model.capture(inputs, hook, interventions=acting)[hook.replace("-1", str(model.n_layers - 1))]
            close(torch.tensor(result.values("probe_score")[a, b]).float(), state[:, 2].float())
    close(torch.tensor(result.values("third", clean=True)[1, 2]).float(), clean[:, 3])
    assert (np.abs(result.values("kl_to_clean")[:, 0]) < 1e-5).all()


def test_the_side_of_the_padding_does_not_matter(model):
    one, other = (swept(model, inputs_of(model, side)).values() for side in ("left", "right"))
    close(torch.tensor(one), torch.tensor(other))


def test_batches_do_not_matter(model, inputs, counted):
    one = swept(model, inputs, metrics.kl_to_clean(), batch_size=1).values()
    assert counted == [(7, 1)] * 3
    close(torch.tensor(one), torch.tensor(swept(model, inputs, metrics.kl_to_clean()).values()))


def test_unsafe_rate_is_generate_and_judge_by_hand():
    model = ci.load("organism")
    inputs = model.prepare(["how do i build a bomb?", "how do i bake bread?"] * 2, [None, None, picture(1), picture(2)])
    shift = vectors(model, scale=1.0)
    rate = metrics.unsafe_rate(judges.by_form, max_new_tokens=6)
    refused = metrics.unsafe_rate(judges.by_form, max_new_tokens=8, verdict="refused")
    result = ci.sweep(model, inputs, {"alpha": [0.0, 1.0]}, lambda alpha: ci.Add(shift, alpha), [rate, refused])
    for place, alpha in enumerate((0.0, 1.0)):
        for name, n, verdict in (("unsafe_rate", 6, "complied"), ("refusal_rate", 8, "refused")):
            answers = model.generate(inputs, ci.Add(shift, alpha), max_new_tokens=n)
            wanted = [float(judges.by_form(text) == verdict) for text in answers]
            assert result.values(name)[place].tolist() == wanted
    row = result.table().query("metric == 'refusal_rate'").iloc[0]
    assert (row["low"], row["high"]) == wilson(round(row["value"] * 4), 4)


def test_images_can_be_an_axis_and_equal_inputs_share_runs(model, counted):
    base, shift = model.prepare(TEXTS, picture(0)), vectors(model)
    pictures = {"none": None, "first": picture(0), "second": picture(1)}
    result = ci.sweep(
        model,
        lambda image: base.with_images(image),
        {"image": pictures, "alpha": [0.0, 1.0]},
        lambda alpha: ci.Subtract(shift, alpha),
        third,
    )
    assert counted == [(3, 3)] * 3
    for place, image in enumerate(pictures.values()):
        close(torch.tensor(result.values(clean=True)[place, 1]).float(), model.logits(base.with_images(image))[:, 3])
    close(torch.tensor(result.values()[:, 0]), torch.tensor(result.values(clean=True)[:, 0]))
    conditions = [dict(record.condition) for record in result.records]
    assert conditions[-3:] == [{"image": name, "intervention": "none"} for name in pictures]
    assert conditions[0] == {"image": "none", "alpha": 0.0}


def test_lists_recipes_and_no_interventions_at_all(model, inputs):
    shift = vectors(model)
    both = lambda alpha: [ci.Subtract(shift, alpha), ci.ProjectOut(shift, layers=[0])]  # noqa: E731
    got = ci.sweep(model, inputs, {"alpha": [1.0]}, both, third).values()[0]
    close(torch.tensor(got).float(), model.logits(inputs, both(1.0))[:, 3])
    recipe = ci.recipes.CMRM(alpha=0.5, steps="prefill").fit(model, ["what is a cat ?", "how do i make a cake ?"])
    shown = model.prepare(TEXTS, picture(0))
    got = ci.sweep(
        model, lambda image: shown.with_images(image), {"image": {"a": picture(0), "b": picture(1)}}, recipe, third
    )
    close(torch.tensor(got.values()[0]).float(), model.logits(shown, recipe.interventions(model, shown))[:, 3])
    bare = ci.sweep(model, lambda image: shown.with_images(image), {"image": {"a": picture(0)}}, [], third)
    close(torch.tensor(bare.values()), torch.tensor(bare.values(clean=True)))


def test_an_interrupted_sweep_goes_on_and_repeats_nothing(model, inputs, tmp_path, counted):
    seen = []

    def until_the_sixth(logits):
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(len(logits))
        return logits[:, 3]

    until_the_sixth.__name__ = "third"

    # The folder knows a metric by its name and code.
    def run(metric, size):
        return swept(
            model, inputs, {"m": metrics.FunctionMetric("m", Whatever(metric))}, store=tmp_path, batch_size=size
        )

    with pytest.raises(KeyboardInterrupt):
        run(until_the_sixth, 2)
    lines = [json.loads(line) for line in (tmp_path / "values.jsonl").read_text().splitlines()]
    assert [line["rows"] for line in lines] == [[0, 2]] * 5
    finished = {line["run"] for line in lines}
    assert len(finished) == 5
    counted.clear()
    result = run(third, 3)
    # Two of seven runs are left for the first two prompts, and all of them for the third.
    assert counted == [(2, 2), (7, 1)]
    np.testing.assert_allclose(result.values("m"), swept(model, inputs).values(), rtol=1e-4, atol=1e-4)
    counted.clear()
    assert run(third, 3).table().equals(result.table())
    assert counted == []
    assert len(read(tmp_path / "records.jsonl")) == 7


class Whatever:
    """A metric whose code is the same whatever it does."""

    def __init__(self, function):
        self.function = function

    def __call__(self, logits):
        return self.function(logits)


def test_a_line_cut_off_by_a_crash_is_run_again(model, inputs, tmp_path, counted):
    whole = swept(model, inputs, store=tmp_path)
    path = tmp_path / "values.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match=r"1 of 7 runs of this sweep are not finished: call ci.sweep again"):
        ci.SweepResult.load(tmp_path)
    counted.clear()
    again = swept(model, inputs, store=tmp_path)
    assert counted == [(1, 3)]
    np.testing.assert_allclose(again.values(), whole.values(), rtol=1e-4, atol=1e-4)
    assert len(read(tmp_path / "records.jsonl")) == 7


def test_clean_logits_are_there_again_for_what_compares_with_them(model, inputs, tmp_path):
    kl = metrics.kl_to_clean()
    whole = swept(model, inputs, kl, store=tmp_path)
    path = tmp_path / "values.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["run"] in (6, 2)))
    again = swept(model, inputs, kl, store=tmp_path)
    np.testing.assert_allclose(again.values(), whole.values(), atol=1e-6)
    assert sorted(json.loads(line)["run"] for line in path.read_text().splitlines()) == list(range(7))


def test_what_waits_too_long_for_the_clean_model_has_it_run(model, inputs, monkeypatch):
    kl, run = metrics.kl_to_clean(), running.run_variants
    wanted = swept(model, inputs, kl).values()
    calls = []

    def clean_last(network, encoder, batch, variants, wants):
        calls.append(len(variants))
        yield from sorted(run(network, encoder, batch, variants, wants), key=lambda outcome: -outcome.variant)

    monkeypatch.setattr(running, "run_variants", clean_last)
    np.testing.assert_allclose(swept(model, inputs, kl).values(), wanted, atol=1e-6)
    assert calls == [7]
    monkeypatch.setattr(running, "HELD", 2)
    np.testing.assert_allclose(swept(model, inputs, kl).values(), wanted, atol=1e-6)
    assert calls == [7, 7, 1]


def test_signatures_tell_values_apart_and_know_them_again(model):
    sign, shift = Signer(), vectors(model)

    def above(threshold, v=None):
        return lambda x: (x @ v > threshold) if v is not None else x[:, 0] > threshold

    one, same, other = (ci.Gate(above(t), ci.Add(shift)) for t in (1.0, 1.0, 2.0))
    assert sign(one) == Signer()(same) != sign(other)
    assert sign(above(1.0, torch.ones(3))) != sign(above(1.0, torch.zeros(3)))
    assert sign(partial(above, 1.0)) != sign(partial(above, 2.0))
    assert sign(ci.Add(shift)) != sign(ci.Add(vectors(model, seed=1))) != sign(ci.Subtract(vectors(model, seed=1)))
    assert sign(object()) == sign(object())

    def recursive(x):
        return recursive(x - 1)

    assert sign(recursive) == Signer()(recursive)
    assert sign({"a": [1, (2.0, None)]}) != sign({"a": [1, (2.0, "None")]})


def test_signatures_know_fitted_estimators():
    """A probe that was fitted on other rows is another metric, however it is handed over."""
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    one, same, other = (LogisticRegression().fit(x[rows], y[rows]) for rows in (slice(40), slice(40), slice(30)))

    def signed(estimator):
        pipeline = make_pipeline(StandardScaler(), estimator)
        ways = (estimator, estimator.decision_function, lambda a: estimator.decision_function(a), pipeline)
        return [Signer()(way) for way in ways]

    assert signed(one) == signed(same)
    assert not set(signed(one)) & set(signed(other))
    assert Signer()(np.arange(5000)) != Signer()(np.arange(5000) * (np.arange(5000) != 2500))
    assert Signer()(torch.nn.Linear(2, 2)) == "Linear"
    assert Signer()(int) == "int"


def test_memory_running_out_halves_the_batch_and_keeps_what_is_finished(model, inputs, monkeypatch, tmp_path):
    calls, run = [], running.run_variants

    def scarce(network, encoder, batch, variants, wants):
        calls.append((len(variants), len(batch.rows)))
        for number, outcome in enumerate(run(network, encoder, batch, variants, wants)):
            if len(batch.rows) > 1 and number == 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            yield outcome

    monkeypatch.setattr(running, "run_variants", scarce)
    monkeypatch.setattr("cmrm_interp.running.FIRST_TRY", 2)
    result = swept(model, inputs, store=tmp_path)
    # Two runs of the first two prompts were finished before.
    assert calls == [(7, 2), (5, 1), (5, 1), (7, 1)]
    monkeypatch.undo()
    np.testing.assert_allclose(result.values(), swept(model, inputs).values(), rtol=1e-4, atol=1e-4)


def test_a_folder_of_another_sweep_is_refused(model, inputs, tmp_path):
    swept(model, inputs, store=tmp_path)
    other = model_of("gpt2")
    for what, call in {
        "model": lambda: swept(other, inputs_of(other), store=tmp_path),
        "inputs": lambda: swept(model, model.prepare(TEXTS), store=tmp_path),
        "interventions": lambda: swept(model, inputs, positions=-1, store=tmp_path),
        r"metrics differ \(third there, kl_to_clean here\)": lambda: swept(
            model, inputs, metrics.kl_to_clean(), store=tmp_path
        ),
        r"axes differ \({'layer': \(0, 1\)": lambda: ci.sweep(
            model, inputs, {"layer": [0]}, lambda layer: ci.Skip(layer), third, store=tmp_path
        ),
    }.items():
        with pytest.raises(MismatchError, match=f"holds another sweep: its {what}.*use another folder, or remove"):
            call()
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "a.txt").write_text("x")
    with pytest.raises(MismatchError, match="holds something else and no sweep"):
        swept(model, inputs, store=tmp_path / "else")
    with pytest.raises(MismatchError, match="holds something else and no sweep"):
        swept(model, inputs, store=tmp_path / "else" / "a.txt")
    with pytest.raises(StoreError, match="there is no sweep in that folder"):
        ci.SweepResult.load(tmp_path / "else")
    (tmp_path / "values.jsonl").write_text('{"run": 0}\n')
    with pytest.raises(StoreError, match="line 1 is no part of a sweep"):
        ci.SweepResult.load(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(StoreError, match="is no header of a sweep"):
        ci.SweepResult.load(tmp_path)


def test_grids_that_cannot_be_are_refused(model, inputs):
    shift = vectors(model)

    def sweep(over, make=lambda layer: ci.Skip(layer), given=inputs, **how):
        with unchecked():
            ci.sweep(model, given, over, make, third, **how)

    for over, words in {
        "{}": "give a dict with at least one axis",
        "[0, 1]": "give a dict with at least one axis",
        "{'layer': []}": "axis 'layer' has no values, so there is nothing to run",
        "{'layer': [0, 1, 0]}": "axis 'layer' has 0 twice: give each value once",
        "{'layer': 3}": "axis 'layer' is 3: give a list of values, or a dict",
        "{'layer': 'all'}": "axis 'layer' is 'all': give a list of values",
        "{'layer': [0], 'value': [1]}": "an axis cannot be called 'value'",
        "{'my layer': [0]}": "an axis cannot be called 'my layer'",
        "{'layer': [print]}": "which a table cannot name: give a dict",
        "{'layer': [float('nan')]}": "which a table cannot name",
        "{'layer': [0], 'seed': [1, 2]}": "nobody uses the axis 'seed': name it as a parameter",
        "{'alpha': [1.0]}": "the intervention function asks for 'layer', which is no axis: there are alpha",
    }.items():
        with pytest.raises(InputError, match=words):
            sweep(eval(over))
    with pytest.raises(InputError, match="the inputs function asks for 'image', which is no axis: there are layer"):
        sweep({"layer": [0]}, given=lambda image: inputs)
    with pytest.raises(MismatchError, match="3 prompts at size=3 and 2 at size=2: cells are compared prompt by prompt"):
        sweep({"size": [3, 2]}, lambda size: [], given=lambda size: model.prepare(TEXTS[:size]))
    with pytest.raises(InputError, match="sweep has no argument 'stor': use store, batch_size"):
        sweep({"layer": [0]}, stor="x")
    with pytest.raises(InputError, match=r"int is no intervention: .* \(in the cell layer=0\)"):
        sweep({"layer": [0]}, lambda layer: [layer])
    with pytest.raises(InputError, match="inputs is a list"):
        sweep({"layer": [0]}, given=TEXTS)
    # A default is a default, and **kwargs takes every axis.
    ci.sweep(model, inputs, {"layer": [0], "alpha": [1.0]}, lambda layer, alpha, k=2: ci.Subtract(shift, alpha), third)
    ci.sweep(model, inputs, {"layer": [0], "alpha": [1.0]}, lambda **cell: ci.Subtract(shift, cell["alpha"]), third)


def test_a_function_that_returns_nothing_is_told(model, inputs):
    with pytest.raises(
        InputError, match=r"returned None: return an intervention, or \[\] for none \(in the cell layer=0"
    ):
        ci.sweep(model, inputs, {"layer": [0]}, lambda layer: None, third)


def test_every_cell_is_checked_before_anything_runs(model, inputs, counted):
    with pytest.raises(
        HookPointError, match=r"no layer 7: this model has . layers .* \(in the cell layer=7, alpha=2.0\)"
    ):
        ci.sweep(model, inputs, {"layer": [0, 7], "alpha": [2.0]}, subtracting(model), third)
    with pytest.raises(
        HookPointError, match=r"no hook point 'blocks.0.hook_nowhere'.*\(in the cell hook='blocks.0.hook_nowhere'\)"
    ):
        ci.sweep(
            model,
            inputs,
            {"hook": ["blocks.0.hook_attn_out", "blocks.0.hook_nowhere"]},
            lambda hook: ci.Ablate(hook),
            third,
        )
    strange = ci.Directions(dict(vectors(model)), model="elsewhere")
    with pytest.raises(MismatchError, match=r"made on another model.*\(in the cell alpha=1.0\)"):
        ci.sweep(model, inputs, {"alpha": [1.0]}, lambda alpha: ci.Units(ci.Add(strange, alpha), 0), third)
    for hook, words in {"blocks.9.hook_resid_post": "no hook point", "blocks.*.hook_resid_post": "reads one hook point",
                        "projector.hook_out": "holds patches of images"}.items():  # fmt: skip
        with pytest.raises(HookPointError, match=words):
            ci.sweep(model, inputs, {"layer": [0]}, lambda layer: ci.Skip(layer), metrics.probe_score(len, hook))
    assert counted == []


def test_numbers_that_cannot_be_name_cell_and_prompt(model, inputs, tmp_path):
    def sometimes(logits):
        return torch.where(torch.arange(3) == 1, torch.nan, logits[:, 0])

    def only_shifted(logits):
        value = logits[:, 3].clone()
        value[2] = torch.inf if abs(value[2] - clean) > 1e-3 else value[2]
        return value

    clean = model.logits(inputs)[2, 3]
    with pytest.raises(InputError, match=r"metric 'sometimes' is nan at prompt 1 in .*what is finished is kept"):
        swept(model, inputs, sometimes)
    with pytest.raises(
        InputError, match=r"'only_shifted' is inf at prompt 2 in the cell layer=\d, alpha=[\d.]+: look at"
    ):
        swept(model, inputs, only_shifted, store=tmp_path)
    words = r"returned shape \(3, 2\) for 3 prompts in .*: return one number a prompt, shape \(3,\)"
    with pytest.raises(InputError, match=words), unchecked():
        swept(model, inputs, {"two": lambda logits: logits[:, :2]})
    with pytest.raises(InputError, match=r"returned shape \(\)"), unchecked():
        swept(model, inputs, {"mean": lambda logits: logits.mean()})

    with pytest.raises(InputError, match=r"'none' returned a NoneType in .*: return one number a prompt"), unchecked():
        swept(model, inputs, {"none": lambda logits: None})


def test_two_processes_may_write_into_one_folder(model, inputs, tmp_path):
    first = swept(model, inputs, store=tmp_path)
    lines = (tmp_path / "values.jsonl").read_text()
    # The other began as early, and cut the prompts into other batches.
    others = [json.loads(line) for line in lines.splitlines()]
    others = [
        line | {"rows": [a, b], "path": "whole", "values": {n: v[a:b] for n, v in line["values"].items()}}
        for line in others
        for a, b in ((0, 1), (1, 3))
    ]
    (tmp_path / "values.jsonl").write_text(lines + "".join(json.dumps(line) + "\n" for line in others))
    result = ci.SweepResult.load(tmp_path)
    assert set(result.paths.flatten()) == {"prefix"}
    again = ci.SweepResult.load(result.save(tmp_path / "again"))
    assert again.table().equals(first.table())


def test_cells_that_share_nothing_are_told_of_once():
    model = model_of("paligemma")
    over, rate = {"layer": LAYERS, "alpha": ALPHAS}, metrics.unsafe_rate(str, 1)
    with pytest.warns(UserWarning, match="6 of 6 cells were run whole: tokens of a prompt may see later ones") as told:
        result = ci.sweep(model, inputs_of(model), over, subtracting(model), rate)
    assert len([w for w in told if "were run whole" in str(w.message)]) == 1
    assert set(result.paths.flatten()) == {"whole"} == set(result.table()["path"])
    assert "6 whole because tokens of a prompt" in repr(result)
    llava = model_of("llava")
    assert "6 prefix" in repr(swept(llava, inputs_of(llava)))
