"""`ci.gap`: tables, pictures, stored activations, refusals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import cmrm_interp as ci
from cmrm_interp import records
from cmrm_interp.errors import HookPointError, InputError, MismatchError
from cmrm_interp.gap import METRICS, as_is, draw, holm, interval, variants
from tests.support import model_of, picture, unchecked

HOOKS = [f"blocks.{layer}.hook_resid_post" for layer in range(3)]
FEW = {"permutations": 100, "resamples": 100}
WORDS = (
    "make a cake",
    "feed the cat",
    "be kind",
    "find a dog",
    "paint it red",
    "tell me a joke",
    "sing",
    "cook the soup",
)


def acts(shift=0.0, n=24, d=6, seed=0, hooks=HOOKS):
    base = np.random.default_rng(0).normal(size=(len(hooks), n, d))
    own = np.random.default_rng(seed).normal(size=(len(hooks), n, d)) * 0.3
    return ci.Activations({h: torch.tensor(base[i] + own[i] + shift * i) for i, h in enumerate(hooks)})


CONDITIONS = {"text": acts(), "blank": acts(0.4, seed=1), "noise": acts(0.8, seed=2)}


@pytest.fixture(scope="module")
def result():
    return ci.gap(None, CONDITIONS, **FEW)


def test_one_row_for_each_hook_point_condition_and_metric(result):
    table = result.table()
    expected = "layer hook a b metric value low high n p p_holm null".split()
    assert list(table) == expected
    assert len(table) == 3 * 2 * len(METRICS)
    assert set(table["b"]) == {"text"}
    assert set(table["a"]) == {"blank", "noise"}
    assert (table["n"] == 24).all()
    assert list(table["layer"].unique()) == [0, 1, 2]
    assert table[["value", "low", "high"]].notna().all(axis=None)
    untested = [m.name for m in METRICS.values() if m.null is None]
    assert set(table[table["p"].isna()]["metric"]) == set(untested)


def test_values_are_those_of_the_functions(result):
    draws = draw(24, 100, 100, seed=0)
    x, y = (CONDITIONS[name][HOOKS[1]].double().numpy() for name in ("noise", "text"))
    for metric in METRICS.values():
        row = result.table(metric.name).query("a == 'noise' and layer == 1").iloc[0]
        assert row["value"] == pytest.approx(metric.compute(x, y, as_is(24))[0])
        expected = np.clip(interval(metric.compute(x, y, draws), draws), *metric.bounds)
        assert (row["low"], row["high"]) == pytest.approx(tuple(expected))


def test_no_interval_ends_where_no_value_can_be():
    halves = {"text": acts(seed=4), "again": acts(seed=5)}
    table = ci.gap(None, halves, **FEW).table()
    for metric in METRICS.values():
        rows = table[table["metric"] == metric.name]
        assert (rows[["low", "value", "high"]] >= metric.bounds[0] - 1e-9).all(axis=None), metric.name
        assert (rows[["low", "value", "high"]] <= metric.bounds[1] + 1e-9).all(axis=None), metric.name


def test_p_is_corrected_over_layers_for_each_pair_and_metric(result):
    for (_, metric), rows in result.table().groupby(["a", "metric"]):
        if metric in ("cosine", "cka", "mmd2"):
            np.testing.assert_allclose(rows["p_holm"], holm(rows["p"].to_numpy()))
    # Layer 0 has no shift, layer 2 the largest.
    far = result.table("classifier_accuracy").query("a == 'noise'")
    assert far["p_holm"].iloc[0] > 0.05 > far["p_holm"].iloc[2]


def test_equal_seeds_give_equal_tables_and_metrics_can_be_chosen(result):
    again = ci.gap(None, CONDITIONS, seed=0, metrics=["mmd2", "cosine"], **FEW)
    chosen = result.table()[result.table()["metric"].isin(["mmd2", "cosine"])]
    keys = ["layer", "a", "metric"]
    pd.testing.assert_frame_equal(
        again.table().sort_values(keys, ignore_index=True), chosen.sort_values(keys, ignore_index=True)
    )
    other = ci.gap(None, CONDITIONS, seed=1, metrics="mmd2", **FEW).table()
    assert (other["low"].to_numpy() != again.table("mmd2")["low"].to_numpy()).all()


def test_pairs_and_reference():
    pairs = ci.gap(None, CONDITIONS, pairs=[("noise", "blank")], metrics="shift_mean_share", **FEW).table()
    assert set(zip(pairs["a"], pairs["b"], strict=True)) == {("noise", "blank")}
    other = ci.gap(None, CONDITIONS, reference="blank", metrics="cosine", **FEW).table()
    assert set(other["a"]) == {"text", "noise"}


def test_a_direction_along_the_shift_overlaps_and_one_across_does_not():
    along = ci.mean_diff(CONDITIONS["noise"], CONDITIONS["text"])
    across = along.map(lambda v, _: torch.stack([v.roll(1) - (v.roll(1) @ v) / (v @ v) * v]).squeeze(0))
    plane = ci.Directions({h: torch.stack([along[h], across[h]]) for h in HOOKS}, rows="subspace")
    given = {"refusal": along, "other": across, "plane": plane}
    found = ci.gap(None, CONDITIONS, metrics="cosine", directions=given, **FEW)
    noise = found.table().query("a == 'noise'").set_index(["metric", "layer"])["value"]
    assert noise["cosine with refusal", 1] == pytest.approx(1)
    assert noise["share in refusal", 1] == pytest.approx(1)
    assert noise["cosine with other", 1] == pytest.approx(0, abs=1e-5)
    assert noise["share in plane", 2] == pytest.approx(1)
    assert ("cosine with plane", 2) not in noise
    assert found.table("cosine with refusal").query("a == 'noise'")["p_holm"].iloc[2] < 0.05
    assert isinstance(found.plot("cosine with refusal"), Figure)
    alone = ci.gap(None, CONDITIONS, metrics="cosine", directions=along.at([1]), **FEW)
    assert alone.table("cosine with the direction")["layer"].unique().tolist() == [1]


def test_records_hold_everything_and_come_back_from_disk(result, tmp_path):
    records.append(tmp_path / "gap.jsonl", result.records)
    back = records.to_frame(records.read(tmp_path / "gap.jsonl"))
    table = result.table()
    assert len(back) == len(table)
    for column in ("a", "b", "hook", "layer", "metric", "value", "low", "high", "n"):
        assert (back[column] == table[column]).all(), column
    np.testing.assert_allclose(back["p_holm"].astype(float), table["p_holm"])
    assert result.records[0].provenance.seed == 0


def test_figures(result):
    figure = result.plot("mmd2")
    axes = figure.axes[0]
    assert axes.get_xlabel() == "layer"
    assert axes.get_ylabel().startswith("MMD")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["blank", "noise"]
    assert "text" in figure.legends[0].get_title().get_text()
    assert "n = 24" in axes.get_title(loc="left")
    shown = result.plot_pca(1)
    assert "% of variance" in shown.axes[0].get_xlabel()
    assert HOOKS[1] in shown.axes[0].get_title(loc="left")
    assert len(shown.legends[0].get_texts()) == 3


def test_components_by_layer(result):
    table = result.pca()
    assert len(table) == 3 * 3 * 24
    assert list(table)[:5] == ["layer", "hook", "condition", "row", "pc1"]
    assert (result.explained()[["pc1", "pc2", "pc3"]].sum(axis=1) <= 1).all()
    assert result.plot_pca(-1).axes[0].get_title(loc="left") == HOOKS[2]
    assert result.plot_pca("blocks.0.hook_resid_post").axes[0].get_title(loc="left") == HOOKS[0]
    with pytest.raises(HookPointError, match=r"layer 7 means 0 hook points: name one of blocks.0"):
        result.plot_pca(7)


def test_two_kinds_of_hook_points_are_not_one_line():
    hooks = ["blocks.0.hook_resid_mid", "blocks.0.hook_resid_post"]
    both = ci.gap(
        None,
        {"text": acts(hooks=hooks), "blank": acts(0.3, seed=1, hooks=hooks)},
        "blocks.*.*",
        metrics="cosine",
        **FEW,
    )
    assert len(both.table()) == 2
    with pytest.raises(InputError, match="one hook point a layer"):
        both.plot("cosine")
    with pytest.raises(HookPointError, match="layer 0 means 2 hook points"):
        both.plot_pca(0)


def test_an_unmeasured_metric_is_named_beside_those_measured(result):
    with pytest.raises(InputError, match=r"'entropy' was not measured: there are cosine, paired_cosine"):
        result.plot("entropy")


def test_repr(result):
    assert repr(result) == "GapResult(blank - text, noise - text; 3 hook points, 24 prompts)"


def changed(condition, **changes):
    return {**CONDITIONS, condition: replace(CONDITIONS[condition], **changes)}


def with_value(condition, value, rows=slice(None)):
    tensor = CONDITIONS[condition][HOOKS[1]].clone()
    tensor[rows] = value
    return changed(condition, tensors={**CONDITIONS[condition].tensors, HOOKS[1]: tensor})


REFUSED = {
    "rows": ({**CONDITIONS, "noise": acts(n=20)}, {}, MismatchError, r"rows differ \(text: 24, blank: 24, noise: 20\)"),
    "one row": ({"text": acts(n=1), "blank": acts(n=1)}, {}, InputError, "1 prompts a condition are too few"),
    "few rows": ({"text": acts(n=7), "blank": acts(n=7)}, {}, InputError, "7 prompts .* give 8 or more"),
    "one condition": ({"text": acts()}, {}, InputError, r"between 1 conditions \(text\): give at least two"),
    "nan": (
        with_value("noise", float("nan"), 3),
        {},
        InputError,
        r"'noise' at 'blocks.1.hook_resid_post': 1 of 24 rows have NaN .* row 3",
    ),
    "constant": (with_value("blank", 1.0), {}, InputError, "'blank' at .* all 24 prompts have the same state"),
    "equal": ({"text": acts(), "same": acts()}, {}, InputError, "'same' and 'text' are equal at"),
    "hooks": ({"text": acts(), "a": acts(hooks=HOOKS[:2])}, {}, MismatchError, "'a' has other hook points"),
    "width": ({"text": acts(), "a": acts(d=5)}, {}, MismatchError, "different widths: {'text': 6, 'a': 5}"),
    "model": (
        {**changed("noise", model="b"), "text": replace(CONDITIONS["text"], model="a")},
        {},
        MismatchError,
        r"'noise' comes from another model \(b and a\)",
    ),
    "position": (changed("noise", positions=-2), {}, MismatchError, "captured at -2, the first at 'last'"),
    "several positions": (
        changed("noise", mask=torch.ones(24, 6, dtype=torch.bool)),
        {},
        MismatchError,
        "several positions a prompt: capture one that every prompt has",
    ),
    "reference": (CONDITIONS, {"reference": "image"}, InputError, "no condition 'image': give reference=, one of text"),
    "pair": (CONDITIONS, {"pairs": [("noise", "noise")]}, InputError, "two different ones of text, blank, noise"),
    "metric": (CONDITIONS, {"metrics": ["mmd"]}, InputError, "no metric 'mmd': there are cosine"),
    "option": (CONDITIONS, {"permutation": 9}, InputError, "no option 'permutation': there are directions, reference"),
    "draws": (CONDITIONS, {"permutations": 10}, InputError, "permutations=10: .* at least 100"),
    "kind": ({"text": [1, 2], "a": acts()}, {}, InputError, "condition 'text' is a list: give model.prepare"),
    "no model": ([ci.Prompt("hi")], {}, InputError, "reads stored activations"),
    "direction": (
        CONDITIONS,
        {"directions": ci.Directions({HOOKS[0]: torch.ones(5)})},
        MismatchError,
        "'the direction' has width 5 at 'blocks.0.hook_resid_post', the states have 6",
    ),
    "elsewhere": (
        CONDITIONS,
        {"directions": {"refusal": ci.Directions({"blocks.9.hook_resid_post": torch.ones(6)})}},
        MismatchError,
        "'refusal' has no vector at these hook points",
    ),
    "by row": (
        CONDITIONS,
        {"directions": {"r": ci.Directions({HOOKS[0]: torch.ones(24, 6)}, rows="batch")}},
        MismatchError,
        "'r' has one vector a prompt",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words(case):
    conditions, options, error, words = REFUSED[case]
    with unchecked(), pytest.raises(error, match=words):
        ci.gap(None, conditions, **options)


def test_inputs_without_a_model_are_refused():
    model = model_of("llava")
    with pytest.raises(InputError, match="condition 'text' is Inputs and there is no model"):
        ci.gap(None, {"text": model.prepare(WORDS), "a": model.prepare(WORDS)})


def test_a_model_and_its_captured_activations_give_one_result():
    model = model_of("llava")
    inputs = variants(model, WORDS, picture(), captions=[f"a red {w} ." for w in ("cat", "dog") * 4])
    ran = ci.gap(model, inputs, seed=3, **FEW)
    stored = {name: model.capture(given, "blocks.*.hook_resid_post") for name, given in inputs.items()}
    pd.testing.assert_frame_equal(ran.table(), ci.gap(None, stored, seed=3, **FEW).table())
    assert ran.provenance.weights_hash == model.fingerprint
    assert ran.provenance.model == model.name
    assert set(ran.table()["a"]) == {"image", "blank", "noise", "caption"}


@pytest.mark.parametrize("family", ["qwen2_vl", "paligemma", "mllama"])
def test_families_that_see_otherwise(family):
    model = model_of(family)
    found = ci.gap(model, variants(model, WORDS, picture(), captions=["a cat ."] * 8), metrics="shift_agreement", **FEW)
    assert set(found.table()["a"]) == {"image", "blank", "noise", "caption"}
    assert len(found.projections) == model.n_layers


def test_activations_of_another_model_are_refused_beside_a_model():
    with pytest.raises(MismatchError, match=r"condition 'noise' was captured from another model \(b\)"):
        ci.gap(model_of("llava"), changed("noise", model="b"))


def test_inputs_and_activations_may_stand_side_by_side_and_other_captured_points_do_not_matter():
    model = model_of("llava")
    shown, text = model.prepare(WORDS, picture()), model.prepare(WORDS)
    stored = model.capture(shown, ["vision.hook_out", "blocks.*.hook_resid_post", "ln_final.hook_normalized"])
    found = ci.gap(model, {"text": text, "image": stored}, metrics="cosine", **FEW)
    both = ci.gap(model, {"text": text, "image": shown}, metrics="cosine", **FEW)
    pd.testing.assert_frame_equal(found.table(), both.table())


def test_heads_are_laid_side_by_side():
    model = model_of("llava")
    inputs = {"text": model.prepare(WORDS), "image": model.prepare(WORDS, picture())}
    found = ci.gap(model, inputs, "blocks.1.attn.hook_z", metrics="cosine", **FEW)
    z = {name: model.capture(given, "blocks.1.attn.hook_z")["blocks.1.attn.hook_z"] for name, given in inputs.items()}
    a, b = (z[name].double().mean(0).flatten() for name in ("image", "text"))
    assert found.table()["value"].iloc[0] == pytest.approx(float(torch.cosine_similarity(a, b, dim=0)))
