"""Transfer between conditions: what is the same, what has moved, and no request on both sides."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from statsmodels.stats.proportion import proportion_confint

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, MismatchError
from tests.probes.probe_data import A, B, acts, gaussians, leaking

FAST = {"strengths": (0.1,), "resamples": 200}


def conditions(n=240, shift=6.0, distance=4.0):
    """Text; the same moved along the line that tells the classes apart; and the line turned away."""
    x, y, line = gaussians(n=n, distance=distance)
    groups = (np.arange(n) // 4 * 2 + ~y).tolist()
    rng = np.random.default_rng(5)
    moved = x + shift * line + 0.1 * rng.normal(size=x.shape)
    turned = x - 2 * np.outer((x - 3.0) @ line, line)
    return {
        "text": (acts(x, x), y, groups),
        "moved": (acts(x, moved), y, groups),
        "turned": (acts(x, turned), y, groups),
    }


def test_a_shift_costs_accuracy_and_not_rank():
    result = ci.probe_transfer(conditions(), **FAST)
    accuracy, auc = result.matrix(B), result.matrix(B, "auc")
    assert list(accuracy.index) == list(accuracy.columns) == ["text", "moved", "turned"]
    assert accuracy.loc["text", "text"] > 0.9
    assert accuracy.loc["moved", "moved"] > 0.9
    assert accuracy.loc["text", "moved"] == pytest.approx(0.5, abs=0.03)
    assert auc.loc["text", "moved"] > 0.95
    assert auc.loc["text", "turned"] < 0.05
    assert result.matrix(A).loc["text", "moved"] == accuracy.loc["text", "text"]


def test_the_gap_has_a_paired_interval():
    result = ci.probe_transfer(conditions(), **FAST)
    gap = result.gap("text", "moved").set_index("hook")
    assert gap.loc[A, ["value", "low", "high"]].tolist() == [0, 0, 0]
    matrix = result.matrix(B)
    assert gap.loc[B, "value"] == pytest.approx(matrix.loc["text", "text"] - matrix.loc["text", "moved"])
    assert gap.loc[B, "low"] > 0.3
    assert list(gap["layer"]) == [0, 1]
    assert (gap["n"] == 240).all()
    assert (gap["groups"] == 120).all()


def test_a_cell_is_a_fit_on_one_condition_without_the_groups_it_is_tested_on():
    given = conditions()
    result = ci.probe_transfer(given, **FAST)
    held = result.cells[B, "text", "moved"]
    x, moved = (given[name][0][B].double().numpy() for name in ("text", "moved"))
    y, groups = given["text"][1], held.groups
    for fold in range(5):
        test = held.fold == fold
        assert not set(groups[test]) & set(groups[~test])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(x[~test], y[~test])
        np.testing.assert_allclose(held.score[test], model.decision_function(moved[test]), rtol=1e-5)


def test_requests_that_leak_do_not_leak_across_conditions():
    x, y, groups = leaking()
    other = x + 0.5 * np.random.default_rng(9).normal(size=x.shape)
    rows = {"text": (acts(x), y, groups), "image": (acts(other), y, groups)}
    table = ci.probe_transfer(rows, **FAST).table().query("metric == 'auc'")
    assert ((table["low"] < 0.5) & (table["high"] > 0.5)).all()
    apart = {"text": (acts(x), y, groups), "image": (acts(other), y, [f"other {g}" for g in groups])}
    fooled = ci.probe_transfer(apart, **FAST).matrix(A, "auc")
    assert fooled.loc["text", "image"] > 0.85


def test_a_gap_of_two_perfect_scores_has_a_width():
    """Newcombe (1998), method 10: the ends are those of Wilson's intervals."""
    x, y, _ = gaussians(n=60, distance=60.0)
    both = {"text": (acts(x), y, list(range(60))), "image": (acts(x + 0.1), y, list(range(60)))}
    result = ci.probe_transfer(both, **FAST)
    gap = result.gap("text", "image").iloc[0]
    low = proportion_confint(60, 60, method="wilson")[0]
    assert (gap["value"], gap["low"], gap["high"]) == pytest.approx((0, low - 1, 1 - low))
    own = result.gap("text", "text").iloc[0]
    assert (own["value"], own["low"], own["high"]) == (0, 0, 0)


def test_one_request_is_one_group_under_all_conditions_as_a_tensor_too():
    found = {}
    for name, write in (("ids", list), ("tensors", lambda groups: [torch.tensor(group) for group in groups])):
        some = {key: (a, y, write(groups)) for key, (a, y, groups) in conditions(n=80).items()}
        found[name] = ci.probe_transfer(some, **FAST).cells[A, "text", "moved"]
    assert found["tensors"].n_groups == found["ids"].n_groups
    np.testing.assert_array_equal(found["tensors"].score, found["ids"].score)


def test_conditions_may_have_their_rows_in_another_order():
    x, y, groups = leaking()
    order = np.random.default_rng(2).permutation(len(y))
    rows = {"text": (acts(x), y, groups), "image": (acts(x[order]), y[order], groups[order])}
    result = ci.probe_transfer(rows, **FAST)
    matrix = result.matrix(A, "auc").to_numpy()
    np.testing.assert_allclose(matrix[0], matrix[0, 0])
    assert (result.table().query("metric == 'auc'")["low"] < 0.5).all()
    one, other = result.cells[A, "text", "text"], result.cells[A, "text", "image"]
    np.testing.assert_allclose(one.score[order], other.score)


def test_conditions_may_have_different_rows():
    x, y, line = gaussians(n=200, distance=4)
    groups = np.arange(200) // 4 * 2 + ~y
    few = slice(0, 80)
    rows = {"text": (acts(x), y, groups.tolist()), "image": (acts(x[few]), y[few], groups[few])}
    result = ci.probe_transfer(rows, **FAST)
    table = result.table().query("metric == 'accuracy'").set_index(["train", "test"])
    assert table.loc[("text", "image"), "n"] == 80
    assert table.loc[("image", "text"), "n"] == 200
    assert result.gap("text", "image")["n"].tolist() == [80]
    assert (table["value"] > 0.9).all()
    assert line.shape == (8,)


def test_figures():
    result = ci.probe_transfer(conditions(n=120), **FAST)
    shown = result.plot(B).axes[0]
    np.testing.assert_allclose(np.asarray(shown.images[0].get_array()), result.matrix(B).to_numpy())
    assert [t.get_text() for t in shown.get_xticklabels()] == ["text", "moved", "turned"]
    assert shown.get_xlabel() == "tested on"
    lines = result.plot_layers("text", "auc")
    assert [t.get_text() for t in lines.legends[0].get_texts()] == ["text", "moved", "turned"]
    assert repr(result) == "TransferResult(logistic; text x moved x turned; 2 hook points)"


def test_what_cannot_be_transferred():
    given = conditions(n=80)
    x, y, groups = given["text"]
    with pytest.raises(InputError, match="1 conditions: transfer needs two, such as"):
        ci.probe_transfer({"text": given["text"]})
    with pytest.raises(InputError, match="'image' has no groups: without them the same request would be trained and"):
        ci.probe_transfer({"text": given["text"], "image": (x, y, None)})
    with pytest.raises(MismatchError, match="'text' and 'image' have different hook points"):
        ci.probe_transfer({"text": given["text"], "image": (acts(x[A]), y, groups)})
    with pytest.raises(MismatchError, match=r"'text' and 'image' are of different models \(None and m\)"):
        ci.probe_transfer({"text": given["text"], "image": (acts(x[A], x[B], model="m"), y, groups)})
    few = [0, 1, 4, 5, 8, 9]
    with pytest.raises(InputError, match="has 3 groups, fewer than 5 folds: pass folds=3, or bring more groups"):
        ci.probe_transfer({"text": given["text"], "image": (x.rows(few), y[few], [groups[i] for i in few])})
    with pytest.raises(InputError, match="transfer compares one score a hook point"):
        ci.probe_transfer(given, positions="each")
    result = ci.probe_transfer(given, **FAST)
    with pytest.raises(InputError, match=r"no conditions 'text' and 'video': there are \['moved', 'text', 'turned'\]"):
        result.gap("text", "video")
    with pytest.raises(InputError, match="no metric 'f1': there are auc, accuracy"):
        result.matrix(A, "f1")
    with pytest.raises(HookPointError, match="means 2 hook points here"):
        result.matrix("blocks.*.hook_resid_post")
    with pytest.raises(InputError, match="nothing was trained on 'video'"):
        result.plot_layers("video")
