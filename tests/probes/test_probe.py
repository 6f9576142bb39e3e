"""`ci.probe` against scikit-learn, closed forms and data whose answer is known."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, MismatchError, StoreError
from cmrm_interp.probes.fitting import fit
from cmrm_interp.probes.mean_difference import MeanDifference
from cmrm_interp.probes.settings import ProbeSettings
from tests.probes.probe_data import FAST, A, B, acts, drawn, gaussians, leaking
from tests.support import unchecked


def value(result, metric, hook=A):
    rows = result.table()
    return rows[(rows["metric"] == metric) & (rows["hook"] == hook)].iloc[0]


def by_hand(x, y, groups, classifier, seed=0, folds=5):
    """Held-out scores, with nothing but scikit-learn."""
    score = np.zeros(len(y))
    for train, test in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(x, y, groups):
        score[test] = classifier(y[train], groups[train]).fit(x[train], y[train]).decision_function(x[test])
    return score


def nested(y, groups):
    inner = list(StratifiedGroupKFold(3, shuffle=True, random_state=0).split(y, y, groups))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    grid = {"logisticregression__C": [0.001, 0.01, 0.1, 1.0]}
    return GridSearchCV(model, grid, scoring="neg_log_loss", cv=inner)


KINDS = {
    "logistic": nested,
    "lda": lambda y, groups: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "mean_difference": None,
}


@pytest.mark.parametrize("kind", ["logistic", "lda"])
def test_held_out_scores_are_those_of_scikit_learn(kind):
    x, y, _ = gaussians(n=160)
    groups = np.arange(160) // 4 * 2 + ~y  # in order of appearance, as folds number them
    result = ci.probe(acts(x), y, groups, kind, controls=0, resamples=100)
    wanted = by_hand(x.astype(np.float32).astype(float), y, groups, KINDS[kind])
    np.testing.assert_allclose(result.cell(A).held.score, wanted, rtol=1e-6, atol=1e-8)


def test_the_strength_is_chosen_inside_each_fold():
    x, y, _ = gaussians(n=200, d=20)
    result = ci.probe(acts(x), y, controls=0, resamples=100)
    assert len(result.cell(A).strengths) == 5
    assert set(result.cell(A).strengths) <= {0.001, 0.01, 0.1, 1.0}
    assert set(ci.probe(acts(x), y, None, "lda", **FAST).cell(A).strengths) == {None}


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0])
def test_the_auc_of_two_gaussians(distance):
    x, y, _ = gaussians(n=4000, d=4, distance=distance)
    found = value(ci.probe(acts(x), y, kind="mean_difference", controls=0), "auc")
    assert found["low"] <= norm.cdf(distance / np.sqrt(2)) <= found["high"]
    assert found["high"] - found["low"] < 0.05
    right = value(ci.probe(acts(x), y, kind="mean_difference", controls=0), "accuracy")
    assert right["low"] <= norm.cdf(distance / 2) <= right["high"]


@pytest.mark.parametrize("kind", KINDS)
def test_words_that_leak_labels_fool_folds_of_rows_and_not_folds_of_groups(kind):
    x, y, groups = leaking()
    fooled = ci.probe(acts(x), y, None, kind, **FAST)
    honest = ci.probe(acts(x), y, groups, kind, **FAST)
    assert value(fooled, "auc")["value"] > 0.85
    assert value(honest, "auc")["low"] < 0.5 < value(honest, "auc")["high"]


def test_a_probe_that_memorises_groups_has_no_selectivity():
    x, y, groups = leaking()
    memory = ci.probe(acts(x), y, groups, controls=4, strengths=(1.0,))
    assert value(memory, "control accuracy")["value"] > 0.9
    assert value(memory, "seen accuracy")["value"] > 0.9
    assert abs(value(memory, "selectivity")["value"]) < 0.02
    assert value(memory, "accuracy")["high"] > 0.5 > value(memory, "accuracy")["low"]


def test_a_probe_that_reads_the_label_has_selectivity():
    x, y, _ = gaussians(n=600, distance=4.0)
    groups = np.arange(600) // 6 + 1000 * y
    found = ci.probe(acts(x), y, groups, controls=4, strengths=(0.1,))
    assert abs(value(found, "control accuracy")["value"] - 0.5) < 0.06
    assert value(found, "selectivity")["low"] > 0.35
    seen, control = (value(found, name)["value"] for name in ("seen accuracy", "control accuracy"))
    assert value(found, "selectivity")["value"] == pytest.approx(seen - control)


def test_permutations():
    x, y, _ = gaussians(n=120, distance=2.0)
    found = ci.probe(acts(x), y, kind="mean_difference", controls=0, permutations=99)
    assert value(found, "auc")["p_value"] == 0.01
    assert np.isnan(value(found, "accuracy")["p_value"])
    assert np.isnan(value(ci.probe(acts(x), y, **FAST), "auc")["p_value"])


def test_p_values_are_uniform_where_there_is_nothing():
    found = []
    for seed in range(20):
        x, y, groups = leaking(n_groups=20, rows=2, d=5, seed=seed)
        result = ci.probe(acts(x), y, groups, "mean_difference", seed=seed, controls=0, permutations=19, folds=2)
        found.append(result.cells[0].p_value)
    # 19 permutations: uniform on 0.05, 0.10 ... 1.
    assert np.mean(found) == pytest.approx(0.525, abs=0.18)
    assert np.mean(np.array(found) <= 0.1) <= 0.33


def test_calibration_of_the_truth_and_of_too_much_confidence():
    x, y = drawn()
    good = ci.probe(acts(x), y, strengths=(1.0,), controls=0)
    assert value(good, "ece")["value"] < 0.05
    # Each row five times: a mean-difference probe that takes copies of a feature for evidence is too sure of itself.
    loud = ci.probe(acts(np.tile(x, 8)), y, kind="mean_difference", controls=0)
    assert abs(value(loud, "auc")["value"] - value(good, "auc")["value"]) < 0.02
    rng = np.random.default_rng(0)
    few, labels = rng.normal(size=(120, 100)), rng.random(120) < 0.5
    sure = ci.probe(acts(few), labels, strengths=(100.0,), controls=0)
    assert value(sure, "ece")["value"] > 0.3
    for method in ("sigmoid", "isotonic"):
        mended = ci.probe(acts(few), labels, strengths=(100.0,), controls=0, calibrate=method)
        assert value(mended, "ece")["value"] < value(sure, "ece")["value"] - 0.1, method
        assert value(mended, "log loss")["value"] < value(sure, "log loss")["value"], method


def test_the_reliability_table():
    x, y = drawn()
    result = ci.probe(acts(x), y, **FAST)
    held, table = result.cell(A).held, result.reliability(A)
    assert table["n"].sum() == len(y)
    first = held.probability < 0.1
    assert table.iloc[0]["observed"] == pytest.approx(held.y[first].mean())
    assert table.iloc[0]["predicted"] == pytest.approx(held.probability[first].mean())
    assert ((table["low"] <= table["observed"]) & (table["observed"] <= table["high"])).all()
    error = (table["n"] * (table["predicted"] - table["observed"]).abs()).sum() / len(y)
    assert value(result, "ece")["value"] == pytest.approx(error)


def test_the_table_has_a_row_a_probe_and_metric():
    x, y, _ = gaussians(n=120, distance=3)
    noise = np.random.default_rng(1).normal(size=x.shape)
    result = ci.probe(acts(noise, x), y, np.arange(120) // 3 + 100 * y, strengths=(0.1,), resamples=100)
    table = result.table()
    assert list(table.columns) == "hook layer position metric value low high n groups p_value".split()
    assert len(table) == 2 * 9
    assert set(table["layer"]) == {0, 1}
    assert (table["n"] == 120).all()
    assert (table["groups"] == 80).all()
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).sum() >= 17
    assert result.best() == B
    assert result.best("log loss") == B
    assert repr(result) == f"ProbeResult(logistic; 2 probes, n = 120 in 80 groups; best at {B!r})"
    with pytest.raises(InputError, match="no metric 'f1': there are auc, accuracy, balanced accuracy"):
        result.best("f1")
    with pytest.raises(HookPointError, match="means 2 probes"):
        result.cell("blocks.*.hook_resid_post")


def test_figures():
    x, y, _ = gaussians(n=120, distance=3)
    result = ci.probe(acts(0.1 * x, x), y, np.arange(120) // 3 + 100 * y, strengths=(0.1,), resamples=100)
    figure = result.plot()
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["accuracy", "control accuracy"]
    line = figure.axes[0].lines[0]
    wanted = result.table().query("metric == 'accuracy'")
    assert list(line.get_xdata()) == [0, 1]
    assert list(line.get_ydata()) == pytest.approx(list(wanted["value"]))
    assert len(result.plot("auc").axes[0].lines) == 1
    curve = result.plot_calibration(A).axes[0]
    np.testing.assert_allclose(curve.lines[1].get_xydata(), result.reliability(A)[["predicted", "observed"]])
    assert curve.get_title(loc="left").startswith(A)
    assert "a bin; 95 % intervals" in curve.get_title(loc="left")


def test_the_same_seed_gives_the_same_result_and_save_keeps_it(tmp_path):
    x, y, _ = gaussians(n=40)
    groups = np.arange(40) // 2 + 100 * y
    how = {"seed": 3, "strengths": (0.1, 1.0), "resamples": 100, "permutations": 2, "folds": 2, "inner_folds": 2}
    one, again = (ci.probe(acts(x, model="m"), y, groups, **how) for _ in range(2))
    pd.testing.assert_frame_equal(one.table(), again.table())
    one.save(tmp_path / "p.safetensors")
    back = ci.ProbeResult.load(tmp_path / "p.safetensors")
    pd.testing.assert_frame_equal(one.table(), back.table())
    assert back.settings == one.settings
    assert back.model == "m"
    ci.Directions({A: torch.ones(3)}).save(tmp_path / "d.safetensors")
    with pytest.raises(StoreError, match="holds 'directions', not 'probe result'"):
        ci.ProbeResult.load(tmp_path / "d.safetensors")


def test_labels_may_be_of_several_makes():
    x, y, _ = gaussians(n=60)
    wanted = ci.probe(acts(x), y, **FAST).cells[0].held.score
    for labels in (y.tolist(), y.astype(int), torch.tensor(y), torch.tensor(y).int().tolist()):
        np.testing.assert_array_equal(ci.probe(acts(x), labels, **FAST).cells[0].held.score, wanted)


def test_equal_groups_are_one_group_however_they_are_written():
    x, y, _ = gaussians(n=60)
    groups = np.arange(60) // 4 * 2 + ~y
    wanted = ci.probe(acts(x), y, groups, **FAST).cells[0].held
    for written in (torch.tensor(groups), [torch.tensor(g) for g in groups], list(groups), [(g, "a") for g in groups]):
        found = ci.probe(acts(x), y, written, **FAST).cells[0].held
        assert found.n_groups == 30
        np.testing.assert_array_equal(found.score, wanted.score)
    with unchecked(), pytest.raises(InputError, match=r"one of the groups is \['a'\]: give one value a row"):
        ci.probe(acts(x), y, [["a"]] * 60)
    with pytest.raises(InputError, match=r"one of the labels is \[True\]: give one value a row"):
        ci.probe(acts(x), y[:, None])
    with unchecked(), pytest.raises(InputError, match=r"activations is a Tensor: give what model\.capture returned"):
        ci.probe(torch.tensor(x), y)


def test_a_constant_feature_changes_nothing():
    x, y, _ = gaussians(n=100)
    with_constant = np.concatenate([x, np.full((100, 1), 7.0)], axis=1)
    for kind in KINDS:
        one, other = (ci.probe(acts(v), y, kind=kind, **FAST).cells[0].held.score for v in (x, with_constant))
        # Ledoit and Wolf's shrinkage counts the dimensions, so LDA moves a little.
        assert np.corrcoef(one, other)[0, 1] > (0.99 if kind == "lda" else 0.99999), kind


def rows(n=20, d=4):
    return np.random.default_rng(0).normal(size=(n, d)), np.arange(n) % 2 == 0


def test_labels_that_cannot_be_told_apart():
    x, y = rows()
    with pytest.raises(InputError, match="all 20 labels are True: a probe needs both classes"):
        ci.probe(acts(x), [True] * 20)
    with pytest.raises(InputError, match=r"3 kinds of label \(0, 1, 2\): a probe tells True from False; pass for each"):
        ci.probe(acts(x), [0, 1, 2, 1] * 5)
    with unchecked(), pytest.raises(InputError, match=r"2 kinds of label \('harmful', 'benign'\).*label == 'harmful'"):
        ci.probe(acts(x), ["harmful", "benign"] * 10)
    with pytest.raises(MismatchError, match=f"19 labels for 20 rows at '{A}': give each row its label"):
        ci.probe(acts(x), y[1:])
    with pytest.raises(MismatchError, match="20 labels and 3 groups: give each row its group"):
        ci.probe(acts(x), y, [1, 2, 3])


def test_activations_that_cannot_be_read():
    x, y = rows()
    broken = x.copy()
    broken[[7, 9], 2] = np.nan
    with pytest.raises(InputError, match=f"NaN or infinite activations at '{B}' in 2 rows, the first is row 7"):
        ci.probe(acts(x, broken), y)
    with pytest.raises(InputError, match=rf"at '{B}' are the same in every row \(1 such of 2\)"):
        ci.probe(acts(x, np.ones_like(x)), y)
    with pytest.raises(InputError, match="these activations have no hook points"):
        ci.probe(ci.Activations({}), y)
    pattern = ci.Activations({"blocks.0.attn.hook_pattern": torch.rand(20, 4, 5)})
    with pytest.raises(InputError, match="one number a key, and keys of padded prompts do not match"):
        ci.probe(pattern, y)


def test_too_few_groups_to_choose_a_strength():
    x, y = rows(4)
    with pytest.raises(InputError, match=r"1 group of one class is left .* fix the strength: strengths=\(0.1,\)"):
        ci.probe(acts(x), y, folds=2)
    assert ci.probe(acts(x), y, folds=2, strengths=(0.1,), controls=0).cells[0].held.n_groups == 4
    with pytest.raises(InputError, match="or leave calibrate out"):
        ci.probe(acts(x), y, folds=2, calibrate="sigmoid")


def test_one_class_left_to_train_on():
    x, _ = rows()
    with pytest.raises(InputError, match="all 20 rows left to train on are False: pass fewer folds, or bring more"):
        fit(x, np.zeros(20, bool), np.arange(20), ProbeSettings())


def test_settings_that_mean_nothing():
    x, y = rows()
    with pytest.raises(InputError, match="probes have no setting 'fold': there are kind, seed, folds, inner_folds"):
        ci.probe(acts(x), y, fold=3)
    with unchecked(), pytest.raises(InputError, match="no kind 'svm': use 'logistic', 'mean_difference', 'lda'"):
        ci.probe(acts(x), y, kind="svm")
    with pytest.raises(InputError, match="folds=1: give a whole number, at least 2"):
        ci.probe(acts(x), y, folds=1)
    with unchecked(), pytest.raises(InputError, match=r"folds=2\.5: give a whole number"):
        ci.probe(acts(x), y, folds=2.5)
    with unchecked(), pytest.raises(InputError, match=r"strengths=0.1: give several, or one as \(0.1,\)"):
        ci.probe(acts(x), y, strengths=0.1)
    with pytest.raises(InputError, match="bins=0: give a positive number"):
        ci.probe(acts(x), y, **FAST).reliability(A, bins=0)
    with pytest.raises(InputError, match=r"strengths=\(0.0,\): give at least one positive C"):
        ci.probe(acts(x), y, strengths=(0.0,))
    with unchecked(), pytest.raises(InputError, match="no calibrate 'platt': use None, 'sigmoid', 'isotonic'"):
        ci.probe(acts(x), y, calibrate="platt")


def test_intervals_cover_the_truth_where_rows_share_a_group():
    distance, spread, inside = 1.5, 1.0, 0
    true = norm.cdf(distance / np.sqrt(2 * (1 + spread**2)))
    for seed in range(40):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(60), 4)
        y = groups % 2 == 0
        x = rng.normal(size=(240, 2))
        x[:, 0] += distance * y + spread * rng.normal(size=60)[groups]
        found = value(ci.probe(acts(x), y, groups, "mean_difference", seed, controls=0, resamples=200), "auc")
        inside += found["low"] <= true <= found["high"]
    # 0.95 of 40 is 38. With rows taken as independent it is about 33.
    assert inside >= 36


def test_the_mean_difference_classifier_is_one_of_scikit_learn():
    x, y, _ = gaussians(n=200, distance=2)
    names = np.where(y, "yes", "no")
    fitted = MeanDifference().fit(x, names)
    nearer = np.linalg.norm(x - x[y].mean(0), axis=1) < np.linalg.norm(x - x[~y].mean(0), axis=1)
    assert (fitted.predict(x) == np.where(nearer, "yes", "no")).all()
    assert (NearestCentroid().fit(x, names).predict(x) == fitted.predict(x)).all()
    np.testing.assert_allclose(fitted.predict_proba(x).sum(1), 1)
    assert fitted.score(x, names) == (fitted.predict(x) == names).mean()
    apart = MeanDifference().fit(np.array([[0.0], [0.0], [2.0], [2.0]]), np.array([0, 0, 1, 1]))
    assert apart.predict(np.array([[0.9], [1.1]])).tolist() == [0, 1]


def test_a_line_for_each_kind_of_hook_point():
    x, y, _ = gaussians(n=60)
    hooks = [A, B, "blocks.0.hook_attn_out", "blocks.1.hook_attn_out"]
    several = ci.Activations({hook: torch.tensor(x) for hook in hooks})
    legend = ci.probe(several, y, **FAST).plot("auc").legends[0].get_texts()
    assert [t.get_text() for t in legend] == ["auc, blocks.*.hook_resid_post", "auc, blocks.*.hook_attn_out"]
    outside = ci.probe(ci.Activations({"projector.hook_out": torch.tensor(x)}), y, **FAST)
    with pytest.raises(InputError, match=r"'projector.hook_out' has no layer to draw over: use .table\(\)"):
        outside.plot()
