"""Results of sweeps: tables, intervals and tests against scipy; files; and which picture fits which axes."""

import numpy as np
import pytest
import scipy.stats
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from statsmodels.stats.multitest import multipletests

import cmrm_interp as ci
from cmrm_interp.errors import InputError
from cmrm_interp.intervals import wilson
from cmrm_interp.records import read
from cmrm_interp.sweeps.header import About, Header
from cmrm_interp.sweeps.ledger import Entry, Ledger
from cmrm_interp.sweeps.statistics import intervals, p_values
from tests.support import unchecked

AXES = {"layer": (0, 1, 2), "alpha": (0.5, 1.0)}
SCORE, RATE = About("score", "nats"), About("rate", share=True)


def result_of(axes=AXES, n=20, input_axes=(), metrics=(SCORE, RATE), seed=0):
    """A sweep's result of numbers drawn at random, without a model."""
    header = Header(axes, input_axes, metrics, n, "model")
    rng = np.random.default_rng(seed)
    ledger = Ledger.new(header)
    for key in range(header.n_runs):
        values = {a.name: rng.integers(0, 2, n) * 1.0 if a.share else rng.normal(0.3 * key, 1, n) for a in metrics}
        ledger.add(Entry(key, slice(0, n), values, "prefix", None))
    return ci.SweepResult(ledger)


def test_the_table_has_means_intervals_and_the_baseline():
    result = result_of()
    table = result.table()
    assert list(table) == ["layer", "alpha", "metric", "value", "low", "high", "n", "clean", "change", "path"]
    assert len(table) == 12
    assert result.values("score").shape == (3, 2, 20) == result.values("rate", clean=True).shape
    row = table[(table.layer == 1) & (table.alpha == 1.0) & (table.metric == "score")].iloc[0]
    values, clean = result.values("score")[1, 1], result.values("score", clean=True)[1, 1]
    wanted = scipy.stats.bootstrap((values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(0))
    np.testing.assert_allclose([row["low"], row["high"]], wanted.confidence_interval, atol=0.05)
    assert row["low"] < row["value"] < row["high"]
    assert row["value"] == pytest.approx(values.mean())
    assert row["clean"] == pytest.approx(clean.mean())
    assert row["change"] == pytest.approx((values - clean).mean())
    row = table[(table.layer == 1) & (table.alpha == 1.0) & (table.metric == "rate")].iloc[0]
    assert (row["low"], row["high"]) == wilson(int(result.values("rate")[1, 1].sum()), 20)


def test_intervals_of_many_rows_are_those_of_each():
    values = np.random.default_rng(0).exponential(size=(4, 30))
    values[2] = 1.5
    low, high = intervals(values, share=False)
    for row in (0, 1, 3):
        wanted = scipy.stats.bootstrap(
            (values[row],), np.mean, n_resamples=2000, method="BCa", batch=2000, rng=np.random.default_rng(0)
        ).confidence_interval
        np.testing.assert_allclose((low[row], high[row]), wanted, rtol=1e-9)
    assert low[2] == high[2] == 1.5
    assert np.isnan(intervals(values[:, :1], share=False)).all()


def test_permutation_tests_are_exact_for_few_prompts():
    rng = np.random.default_rng(0)
    clean, values = np.zeros((2, 5)), np.stack([np.abs(rng.normal(size=5)), rng.normal(size=5)])
    # All five differences have one sign: one of the 32 sign flips is as large, and its mirror image.
    assert p_values(values, clean, "greater")[0] == pytest.approx(1 / 32)
    assert p_values(values, clean, "two-sided")[0] == pytest.approx(2 / 32)
    assert p_values(values, clean, "less")[0] == 1.0
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)
    means = (signs * values[1][:, None]).mean(0)
    assert p_values(values, clean, "greater")[1] == pytest.approx((means >= values[1].mean() - 1e-12).mean())


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
@pytest.mark.parametrize("n", [6, 25])
def test_permutation_tests_are_scipys(alternative, n):
    rng = np.random.default_rng(n)
    clean, values = rng.normal(size=(3, n)), rng.normal(0.3, 1, size=(3, n)).round(1)
    # Ties: rounded differences have many equal means.
    clean = clean.round(1)
    for row, p in enumerate(p_values(values, clean, alternative)):
        wanted = scipy.stats.permutation_test(
            (values[row] - clean[row],), np.mean, permutation_type="samples", alternative=alternative, rng=1
        ).pvalue
        assert p == pytest.approx(wanted, abs=0 if n == 6 else 0.02)


def test_many_cells_get_so_many_flips_that_a_corrected_p_can_be_small():
    result = result_of({"layer": tuple(range(12)), "head": tuple(range(12))}, n=20, metrics=(SCORE,))
    found = result.test()
    # The last cells are hundreds of standard deviations away from the first, and all tests are corrected for 144.
    assert found["p_holm"].iloc[-1] > 0.05
    assert found["p_holm"].iloc[0] < 0.05


def test_tests_of_a_sweep_are_scipys_with_holms_correction():
    result = result_of(metrics=(SCORE,))
    found = result.test(alternative="less", seed=3)
    ours, clean = result.values().reshape(-1, 20), result.values(clean=True).reshape(-1, 20)
    for row, p in enumerate(found["p"]):
        # The numbers are normal, so a t-test asks nearly the same.
        wanted = scipy.stats.ttest_rel(ours[row], clean[row], alternative="less").pvalue
        assert abs(p - wanted) < 0.03
    np.testing.assert_allclose(found["p_holm"], multipletests(found["p"], method="holm")[1])
    assert (found["p_holm"] >= found["p"]).all()
    assert list(found) == ["layer", "alpha", "metric", "change", "n", "p", "p_holm"]
    with pytest.raises(InputError, match="alternative='more': use 'two-sided', 'less' or 'greater'"), unchecked():
        result.test(alternative="more")
    with pytest.raises(InputError, match="needs at least 2 prompts, and this sweep has 1"):
        result_of(n=1).test("score")


def test_one_prompt_has_no_interval():
    table = result_of(n=1, metrics=(SCORE,)).table()
    assert table["low"].isna().all()
    assert {record.low for record in result_of(n=1, metrics=(SCORE,)).records} == {None}


def test_the_best_cell_and_parts_of_a_sweep():
    result = result_of()
    means = result.values("score").mean(-1)
    best = result.best("score")
    place = np.unravel_index(means.argmax(), means.shape)
    assert (best["layer"], best["alpha"], best["value"]) == (
        *(AXES[n][i] for n, i in zip(AXES, place, strict=True)),
        means.max(),
    )
    assert result.best("score", highest=False)["value"] == means.min()
    part = result.at(alpha=1.0)
    np.testing.assert_array_equal(part.values("score"), result.values("score")[:, 1:])
    assert part.axes == {"layer": (0, 1, 2), "alpha": (1.0,)}
    assert result.at(layer=2, alpha=0.5).values("rate").shape == (1, 1, 20)
    with pytest.raises(InputError, match=r"nothing at alpha=3.0: alpha has \[0.5, 1.0\]"):
        result.at(alpha=3.0)
    with pytest.raises(InputError, match=r"nothing at beta=1: axes are \['layer', 'alpha'\]"):
        result.at(beta=1)
    with pytest.raises(InputError, match="several metrics: name one of score, rate"):
        result.best()
    with pytest.raises(InputError, match="no metric 'scor' in this sweep: there is score, rate"):
        result.values("scor")


def test_baselines_of_inputs_stand_beside_their_own_cells():
    result = result_of({"image": ("a", "b"), "alpha": (0.0, 1.0, 2.0)}, input_axes=("image",), metrics=(SCORE,))
    clean = result.values(clean=True)
    assert (clean[:, :1] == clean).all()
    assert not (clean[0] == clean[1]).any()
    part = result.at(image="b")
    np.testing.assert_array_equal(part.values(clean=True)[0], clean[1])
    assert len(result.records) == 8


def test_saved_and_loaded_it_is_the_same(tmp_path):
    result = result_of()
    result.save(tmp_path / "a")
    again = ci.SweepResult.load(tmp_path / "a")
    assert again.table().equals(result.table())
    assert again.header == result.header
    assert tuple(read(tmp_path / "a" / "records.jsonl")) == result.records == again.records
    again.save(tmp_path / "a")
    assert len(read(tmp_path / "a" / "records.jsonl")) == 14


def test_it_shows_itself_in_short():
    result = result_of({"layer": tuple(range(20))})
    assert repr(result) == "SweepResult(layer 20; score, rate; 20 prompts; cells run: 20 prefix)"
    html = result._repr_html_()
    assert html.count("<tr") == 9
    assert "32 more rows: .table()" in html


def lines_of(figure):
    return [line for axes in figure.axes for line in axes.get_lines()]


def test_one_axis_of_numbers_is_a_line_with_the_baseline():
    result = result_of({"layer": (0, 1, 2)})
    figure = result.plot("score")
    line, clean = lines_of(figure)
    np.testing.assert_allclose(line.get_ydata(), result.values("score").mean(-1))
    assert set(clean.get_ydata()) == {result.values("score", clean=True).mean(-1)[0]}
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("layer", "score (nats)")
    assert "n = 20 each; 95 % intervals" in axes.get_title(loc="left")
    assert len(axes.collections) == 1


def test_a_short_second_axis_is_told_apart_by_colour():
    figure = result_of().plot("score")
    assert len(lines_of(figure)) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0.5", "1", "clean model"]


def test_two_long_axes_are_a_map_white_at_the_baseline():
    result = result_of({"layer": tuple(range(9)), "head": tuple(range(8))}, metrics=(SCORE,))
    figure = result.plot()
    image = figure.axes[0].get_images()[0]
    np.testing.assert_allclose(np.asarray(image.get_array()), result.values().mean(-1).T)
    low, high = image.get_clim()
    assert (low + high) / 2 == pytest.approx(result.values(clean=True).mean(-1)[0, 0])
    assert figure.axes[0].get_xlabel() == "layer"
    assert "white: clean model" in figure.axes[1].get_ylabel()
    assert result_of().plot("score", kind="heatmap").axes[0].get_images()


def test_maps_over_several_baselines_show_changes():
    axes = {"image": ("a", "b"), "layer": tuple(range(8))}
    result = result_of(axes, input_axes=("image",), metrics=(SCORE,))
    figure = result.plot(kind="heatmap")
    image = np.asarray(figure.axes[0].get_images()[0].get_array())
    np.testing.assert_allclose(image, (result.values() - result.values(clean=True)).mean(-1))
    assert "change of score" in figure.axes[1].get_ylabel()
    # As lines, each has its own dashed one.
    assert len(lines_of(result.plot())) == 4


def test_names_are_points_with_intervals():
    result = result_of({"unit": ("attn", "mlp", "head")}, metrics=(SCORE,))
    figure = result.plot()
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["attn", "mlp", "head"]
    points = figure.axes[0].containers[0]
    np.testing.assert_allclose(points.lines[0].get_ydata(), result.values().mean(-1))
    assert result_of({"unit": ("attn",), "layer": (3,)}, metrics=(SCORE,)).plot().axes


def test_three_axes_are_small_multiples_on_one_scale():
    axes = {"image": ("none", "blank", "noise"), "layer": tuple(range(8)), "head": tuple(range(7))}
    figure = result_of(axes, metrics=(SCORE,)).plot()
    maps = [axes.get_images()[0] for axes in figure.axes if axes.get_images()]
    assert len(maps) == 3
    assert len({image.get_clim() for image in maps}) == 1
    assert "image: blank" in figure.axes[1].get_title(loc="left")
    lines = result_of({"image": ("a", "b", "c", "d"), "layer": (0, 1, 2), "alpha": (0.5, 1.0)}, metrics=(SCORE,)).plot()
    assert len([axes for axes in lines.axes if axes.get_visible()]) == 4


def written(axis):
    """What stands at an axis: its label, and the labels of ticks that are in sight."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [axis.label, *(text for tick in ticks for text in (tick.label1, tick.label2) if text.get_visible())]


LONG = ("mean difference", "principal direction", "a very long name of an estimator (whitened)", "random 0")


@pytest.mark.parametrize(
    "axes",
    [
        {"direction": LONG},
        {"image": (None, "blank", "a real photograph of a cat")},
        {"layer": tuple(range(32)), "hook": ("hook_resid_pre", "hook_attn_out", "hook_mlp_out")},
        {"layer": tuple(range(32)), "head": tuple(range(32))},
        {"layer": tuple(range(32)), "image": (None, "blank", *LONG, "noise")},
        {"layer": tuple(range(32)), "head": tuple(range(9)), "image": ("blank", "noise", "real", "caption")},
    ],
    ids=lambda axes: "-".join(axes),
)
def test_what_is_written_can_be_read(axes):
    """No word leaves the figure, none stands on another."""
    figure = result_of(axes, metrics=(SCORE,)).plot()
    FigureCanvasAgg(figure).draw()
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    parts = [axis for axes in figure.axes if axes.get_visible() for axis in (axes.xaxis, axes.yaxis)]
    words = [word for word in (*legends, *(w for part in parts for w in written(part))) if word.get_text()]
    boxes = [text.get_window_extent() for text in words]
    for word, box in zip(words, boxes, strict=True):
        assert min(box.x0, box.y0) >= -1, word
        assert max(box.x1 - figure.bbox.x1, box.y1 - figure.bbox.y1) <= 1, word
    # The boxes of words that are turned overlap though the words do not.
    plain = [(w, b) for w, b in zip(words, boxes, strict=True) if w.get_rotation() == 0]
    for place, (word, box) in enumerate(plain):
        others = [other for other, its in plain[:place] if box.shrunk(0.9, 0.8).overlaps(its)]
        assert not others, f"{word} stands on {others[0]}"


def test_none_is_a_label_like_others():
    axes = {"image": (None, "blank", "real"), "layer": (0, 1, 2)}
    result = result_of(axes, metrics=(SCORE,))
    assert result.table()["image"].tolist()[::3] == [None, "blank", "real"]
    values = result.values().mean(-1)
    (nothing,) = [line for line in lines_of(result.plot()) if line.get_label() == "None"]
    np.testing.assert_allclose(nothing.get_ydata(), values[0])
    (image,) = result.plot(kind="heatmap").axes[0].get_images()
    np.testing.assert_allclose(image.get_array().filled(np.nan), values)
    panels = result_of({**axes, "alpha": (0.5, 1.0)}, metrics=(SCORE,)).plot().axes
    assert [len(one.get_lines()) for one in panels] == [3, 3, 3]
    assert result_of({"layer": (None, 0, 1)}, metrics=(SCORE,)).table()["layer"].tolist() == [None, 0, 1]


def test_a_picture_of_one_prompt_claims_no_intervals():
    assert result_of(n=1, metrics=(SCORE,)).plot().axes[0].get_title(loc="left") == "n = 1 each"


def test_baselines_of_their_own_are_in_the_legend():
    (legend,) = result_of(input_axes=("alpha",), metrics=(SCORE,)).plot().legends
    assert [text.get_text() for text in legend.get_texts()] == ["0.5", "1", "clean model"]


def test_pictures_that_there_are_not_are_refused():
    four = result_of(dict.fromkeys("abcd", (0, 1)), metrics=(SCORE,))
    with pytest.raises(InputError, match=r"4 axes in one picture \(a, b, c, d\): choose first, with .at\(axis=value\)"):
        four.plot()
    assert four.at(a=0).plot().axes
    names = result_of({"unit": ("a", "b")}, metrics=(SCORE,))
    with pytest.raises(InputError, match="lines need an axis of numbers, and 'unit' has names: use 'points'"):
        names.plot(kind="lines")
    with pytest.raises(InputError, match="a heatmap needs two axes with several values, and there is 'unit' alone"):
        names.plot(kind="heatmap")
    with pytest.raises(InputError, match="no picture 'pie': use 'auto'"), unchecked():
        names.plot(kind="pie")
    many = {"a": tuple(range(13)), "b": tuple(range(14)), "c": tuple(range(15))}
    with pytest.raises(InputError, match=r"13 small multiples by a: choose some first, with .at\(a=value\)"):
        result_of(many, n=2, metrics=(SCORE,)).plot()


def test_values_are_not_the_ledgers_own():
    result = result_of()
    table = result.table()
    table["value"] = 0.0
    assert not (result.table()["value"] == 0).all()
    assert torch.tensor(result.values("score")).dtype == torch.float64
