"""Safety against utility: the front by brute force, the points by hand, the figure's names apart."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from statsmodels.stats.proportion import proportion_confint

from cmrm_interp.errors import InputError
from cmrm_interp.plots import pareto
from cmrm_interp.reports.pareto import front, tradeoff
from tests.evaluation.made import judged, marked, measured

NUMBERS = st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12))
def test_the_front_is_what_nothing_dominates(points):
    expected = []
    for x, y in points:
        beaten = any(a >= x and b <= y and (a > x or b < y) for a, b in points)
        expected.append(not beaten)
    assert front([x for x, _ in points], [y for _, y in points]) == expected


def test_equal_points_are_both_on_the_front():
    assert front([0.5, 0.5, 0.4], [0.1, 0.1, 0.1]) == [True, True, False]


def test_the_front_needs_both_numbers_of_each_point():
    with pytest.raises(InputError, match="2 values of utility and 1 of unsafe answers"):
        front([1.0, 2.0], [0.5])


def answers(defence="none", unsafe="cccc", right=(1, 1, 1, 0), **how):
    return judged(unsafe, defence=defence, **how) + marked(right, defence=defence, **how)


def test_points_are_shares_with_wilsons_intervals():
    frame = tradeoff(answers() + answers("CMRM", "crrr" * 10, [1] * 30 + [0] * 10))
    point = frame.set_index("defence").loc["CMRM"]
    assert (point["utility"], point["unsafe"]) == (0.75, 0.25)
    # A little wider: the variance is taken from the answers, with n - 1 and Student's t.
    assert (point["unsafe low"], point["unsafe high"]) == pytest.approx(
        proportion_confint(10, 40, method="wilson"), abs=0.01
    )
    assert (point["utility n"], point["unsafe n"]) == (40, 40)
    assert frame["front"].tolist() == [False, True]


def test_a_mean_over_suites_weighs_them_alike_and_the_worst_is_named():
    both = judged("cccc", "a") + judged("crrrrrrr", "b") + marked([1, 0])
    mean, worst = tradeoff(both).iloc[0], tradeoff(both, over="worst").iloc[0]
    assert mean["unsafe"] == pytest.approx((1 + 0.125) / 2)
    assert (worst["unsafe"], worst["worst"], worst["unsafe n"]) == (1.0, "a", 4)


def test_the_same_requests_in_two_suites_are_no_more_prompts():
    once = tradeoff(judged("crcrcrcrcr", "a") + marked([1, 0])).iloc[0]
    twice = tradeoff(judged("crcrcrcrcr", "a") + judged("crcrcrcrcr", "b") + marked([1, 0])).iloc[0]
    assert (twice["unsafe low"], twice["unsafe high"]) == pytest.approx((once["unsafe low"], once["unsafe high"]))
    others = judged("crcrcrcrcr", "b")
    others = tuple(one.__class__(**{**vars(one), "request": f"other {one.id}"}) for one in others)
    apart = tradeoff(judged("crcrcrcrcr", "a") + others + marked([1, 0])).iloc[0]
    assert apart["unsafe high"] < twice["unsafe high"], "other requests are"


def test_one_question_about_many_pictures_is_many_prompts():
    same = tradeoff(judged("cr") + marked([1] * 30 + [0] * 10, asked="what is it ?")).iloc[0]
    other = tradeoff(judged("cr") + marked([1] * 30 + [0] * 10)).iloc[0]
    assert (same["utility low"], same["utility high"]) == (other["utility low"], other["utility high"])


def test_over_refusal_is_turned_so_that_more_is_better():
    both = judged("cr") + judged("rrrcccccccccccc", "b", kind="benign")
    point = tradeoff(both).iloc[0]
    assert point["utility"] == pytest.approx(0.8)
    assert point["utility low"] < 0.8 < point["utility high"]
    assert tradeoff(both).attrs["utility"] == "benign requests not refused (form)"


def test_means_are_over_suites_that_all_defences_answered():
    some = answers() + judged("cccc", "t") + answers("few", "crcr")
    frame = tradeoff(some)
    assert frame["unsafe"].tolist() == [1.0, 0.5]
    assert frame["unsafe n"].tolist() == [4, 4]
    with pytest.raises(InputError, match="the defences share no suite, so their means do not compare"):
        tradeoff(answers() + judged("c", "t", defence="x") + marked([1], defence="x"))


def test_costs_stand_beside():
    frame = tradeoff(answers() + measured([1.0, 3.0], suite="more"))
    assert frame["seconds"].tolist() == [2.0]


def test_fronts_are_within_checkpoints():
    both = answers(unsafe="cccc", checkpoint="a") + answers(unsafe="rrrr", checkpoint="b")
    assert tradeoff(both)["front"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("given_answers", "how", "words"),
    [
        (judged("cr"), {}, "no suite says what a defence costs: add questions or benign requests"),
        (marked([1]), {}, "no suite of kind harmful was judged for 'unsafe'"),
        (answers(), {"utility": "speed"}, "utility is 'right' or 'over-refused', not 'speed'"),
        (answers(), {"judge": "guard"}, "the judge 'guard' gave no verdicts on harmful requests: there are form"),
        (
            judged("c") + marked([1], defence="other"),
            {},
            "no defence answered both harmful requests and something useful",
        ),
    ],
)
def test_what_cannot_be_traded_off_is_said(given_answers, how, words):
    with pytest.raises(InputError, match=words):
        tradeoff(given_answers, **how)


def many(rng, n=9):
    rows = [
        answers(f"defence number {row}", rng.choice(["c", "r"], 40, p=[p, 1 - p]), rng.random(40) < q)
        for row, (p, q) in enumerate(rng.random((n, 2)))
    ]
    return [one for row in rows for one in row]


def test_the_figures_names_do_not_cover_one_another():
    frame = tradeoff(many(np.random.default_rng(0)))
    figure = pareto(frame, "utility", "unsafe", "defence")
    (axes,) = figure.axes
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 9
    inside = axes.get_window_extent()
    assert all(inside.x0 - 1 <= box.x0 and box.x1 <= inside.x1 + 1 for box in boxes)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_many_names_stand_beside_the_panel_and_do_not_cover_one_another():
    figure = pareto(tradeoff(many(np.random.default_rng(0), 34)), "utility", "unsafe", "defence")
    (axes,) = figure.axes
    figure.draw_without_rendering()
    # Of the words alone, without the lines to their points.
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert len(boxes) == 34
    assert all(axes.get_window_extent().x1 < box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    heights = [text.xy[1] for text in axes.texts]
    assert heights == sorted(heights)


def test_the_figure_says_what_its_axes_are_and_has_a_panel_a_checkpoint():
    frame = tradeoff(answers(checkpoint="a") + answers(checkpoint="b"))
    figure = pareto(frame, "utility", "unsafe", "defence", "checkpoint")
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    assert figure.get_supxlabel() == "questions answered right (%), more is better"
    assert figure.get_supylabel().replace("\n", " ") == "unsafe answers (form) (%), less is better"
    assert "95 % intervals" in figure.get_suptitle()
