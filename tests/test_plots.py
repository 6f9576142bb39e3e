"""Figures say what the table says: heights, whiskers, labels, n."""

import hashlib
from itertools import pairwise

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

from cmrm_interp import plots, records
from cmrm_interp.errors import InputError, StoreError
from cmrm_interp.provenance import Provenance

COUNTS = {("none", "unsafe"): 61, ("none", "refused"): 39, ("CMRM", "unsafe"): 5, ("CMRM", "refused"): 95}


@pytest.fixture
def rows():
    made = Provenance()
    return [records.rate({"defence": d}, metric, k, 100, made) for (d, metric), k in COUNTS.items()]


@pytest.fixture
def sweep():
    layers = np.arange(6)
    parts = [
        pd.DataFrame(
            {"layer": layers[::-1], "value": layers * slope, "low": layers - 1, "high": layers + 1, "kind": kind}
        )
        for slope, kind in ((1.0, "CMRM"), (0.1, "random"))
    ]
    return pd.concat(parts)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_bars_have_the_rates_and_their_intervals(rows):
    figure = plots.rates(rows, "defence", title="Harmful requests")
    axes = figure.axes[0]
    heights = [round(bar.get_height()) for bar in axes.patches]
    assert heights == [61, 5, 39, 95]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["none", "CMRM"]
    assert legend(figure) == ["unsafe", "refused"]
    assert axes.get_title(loc="left") == "Harmful requests\nn = 100 each; 95 % intervals"
    assert axes.get_ylabel() == "answers (%)"
    ends = axes.collections[0].get_segments()[0][:, 1]
    assert ends == pytest.approx([100 * rows[0].low, 100 * rows[0].high])


def test_bars_of_a_group_stand_side_by_side(rows):
    bars = sorted(plots.rates(rows, "defence").axes[0].patches, key=lambda bar: bar.get_x())
    assert all(left.get_x() + left.get_width() <= right.get_x() + 1e-9 for left, right in pairwise(bars))


def test_a_table_is_as_good_as_records_and_n_may_vary(rows):
    frame = records.to_frame(rows)
    frame.loc[0, "n"] = 90
    assert "n = 90 to 100" in plots.rates(frame, "defence").axes[0].get_title(loc="left")


def test_a_verdict_keeps_its_colour(rows):
    both = plots.rates(rows, "defence").axes[0].patches
    refused = plots.rates([row for row in rows if row.metric == "refused"], "defence").axes[0].patches
    assert both[2].get_facecolor() == refused[0].get_facecolor() != both[0].get_facecolor()


def test_a_rate_without_interval_has_no_whisker(rows):
    frame = records.to_frame(rows).assign(low=np.nan, high=np.nan)
    axes = plots.rates(frame, "defence").axes[0]
    assert len(axes.patches) == 4
    assert not any(segment.size for lines in axes.collections for segment in lines.get_segments())


def test_two_rows_for_one_bar_are_refused(rows):
    with pytest.raises(InputError, match="more than one row for one defence and metric"):
        plots.rates([*rows, rows[0]], "defence")


@pytest.mark.parametrize("draw", [plots.rates, plots.lines])
def test_missing_columns_and_empty_tables_are_named(draw, rows):
    with pytest.raises(InputError, match=r"no column \['defense'\]: it has \['defence', 'metric'"):
        draw(rows, "defense")
    with pytest.raises(InputError, match="no rows"):
        draw([], "defence")


def test_lines_are_sorted_and_banded(sweep):
    figure = plots.lines(sweep, "layer", hue="kind", labels={"value": "logit difference (nats)"})
    axes = figure.axes[0]
    assert [list(line.get_xdata()) for line in axes.lines] == [[0, 1, 2, 3, 4, 5]] * 2
    assert list(axes.lines[0].get_ydata()) == [5, 4, 3, 2, 1, 0]
    assert len(axes.collections) == 2
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("layer", "logit difference (nats)")
    assert legend(figure) == ["CMRM", "random"]
    assert {line.get_marker() for line in axes.lines} == {"o", "s"}


def test_there_is_no_layer_and_a_half(sweep):
    axes = plots.lines(sweep[sweep["layer"] < 3], "layer", hue="kind").axes[0]
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    axes = plots.lines(sweep.assign(layer=sweep["layer"] / 10), "layer", hue="kind").axes[0]
    assert not all(float(tick).is_integer() for tick in axes.get_xticks())


def test_a_reliability_curve_says_what_its_table_says():
    table = {"predicted": [0.2, 0.7], "observed": [0.1, 0.8], "low": [0.0, 0.6], "high": [0.3, 0.9], "n": [10, 30]}
    axes = plots.reliability(pd.DataFrame(table), "layer 3").axes[0]
    np.testing.assert_allclose(axes.lines[1].get_xydata(), [[0.2, 0.1], [0.7, 0.8]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted probability", "observed share")
    assert axes.get_title("left") == "layer 3\nn = 10 to 30 a bin; 95 % intervals"


def test_a_line_alone_needs_neither_band_nor_legend(sweep):
    figure = plots.lines(sweep[sweep.kind == "CMRM"][["layer", "value"]], "layer")
    assert not figure.axes[0].collections
    assert not figure.legends


def test_too_many_kinds_are_refused(sweep):
    many = pd.concat([sweep.assign(kind=str(i)) for i in range(9)])
    with pytest.raises(InputError, match="more than 8 kinds"):
        plots.lines(many, "layer", hue="kind")


def test_points_keep_their_condition():
    points = np.arange(10.0).reshape(5, 2)
    frame = pd.DataFrame(points, columns=["a", "b"]).assign(kind=["text", "image", "text", "image", "image"])
    figure = plots.scatter(frame, "a", "b", "kind", {"a": "component 1 (60 %)"})
    assert figure.axes[0].get_xlabel() == "component 1 (60 %)"
    text, image = figure.axes[0].collections
    assert (text.get_offsets() == points[[0, 2]]).all()
    assert (image.get_offsets() == points[[1, 3, 4]]).all()
    assert legend(figure) == ["text (n = 2)", "image (n = 3)"]


def test_points_that_cannot_be_drawn_are_refused():
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": [1.0, 2.0]})
    with pytest.raises(InputError, match="no finite a and b"):
        plots.scatter(frame, "a", "b")
    with pytest.raises(InputError, match="no column"):
        plots.scatter(frame, "a", "c")
    with pytest.raises(InputError, match="no rows"):
        plots.scatter(frame[:0], "a", "b")


def test_heat_has_white_at_zero_only_with_both_signs():
    frame = pd.DataFrame({"position": [1, 0], "layer": [4, 4], "value": [3.0, -1.0]})
    image = plots.heatmap(frame, "position", "layer").axes[0].images[0]
    assert image.get_clim() == (-3, 3)
    assert image.get_array().tolist() == [[-1.0, 3.0]]
    image = plots.heatmap(frame.assign(value=[1.0, 3.0]), "position", "layer").axes[0].images[0]
    assert image.get_clim() == (1, 3)
    with pytest.raises(InputError, match="more than one row for one position and layer"):
        plots.heatmap(pd.concat([frame, frame]), "position", "layer")
    with pytest.raises(InputError, match="finite"):
        plots.heatmap(frame.assign(value=np.nan), "position", "layer")
    with pytest.raises(InputError, match="finite"):
        plots.heatmap(frame.assign(value=np.inf), "position", "layer")


def test_a_cell_without_a_value_stays_empty():
    frame = pd.DataFrame({"head": [0, 1, 1], "layer": [0, 0, 1], "value": [1.0, 2.0, 3.0]})
    array = plots.heatmap(frame, "head", "layer").axes[0].images[0].get_array()
    assert array.mask.tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize(("values", "whole"), [((0, 1), True), ((False, True), True), ((0.0, 0.5), False)])
def test_a_map_of_yes_and_no_has_a_bar_with_these_two(values, whole):
    frame = pd.DataFrame({"layer": [0, 1], "head": [0, 0], "value": values})
    marks = plots.heatmap(frame, "head", "layer").axes[1].get_yticks()
    assert (list(marks) == [0, 1]) == whole


def test_nothing_is_left_open_or_changed(rows):
    before = plt.rcParams["font.size"]
    plots.rates(rows, "defence")
    assert plt.get_fignums() == []
    assert plt.rcParams["font.size"] == before


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_equal_figures_are_equal_files(rows, tmp_path, suffix):
    paths = [plots.save(plots.rates(rows, "defence"), tmp_path / f"{i}{suffix}") for i in range(2)]
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert len(hashes) == 1
    with pytest.raises(StoreError, match="was not written"):
        plots.save(plots.rates(rows, "defence"), paths[0] / f"x{suffix}")


@pytest.mark.slow
def test_a_notebook_shows_a_figure_once(monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel chooses its own
    cell = (
        "import pandas as pd\nfrom cmrm_interp import plots\nplots.lines(pd.DataFrame({'x': [1], 'value': [1]}), 'x')"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(book, timeout=120).execute()
    shown = [output for output in book.cells[0].outputs if "image/png" in output.get("data", {})]
    assert len(shown) == 1
