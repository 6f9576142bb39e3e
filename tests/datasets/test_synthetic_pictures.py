"""Pictures: what is drawn is what is said."""

import inspect

import numpy as np
import pytest

from cmrm_interp.datasets.synthetic import Shape, caption, pictures, scenes, visual_questions
from cmrm_interp.datasets.synthetic.pictures import _RGB, SHAPES, SIZE, draw_objects, paint, shape_questions
from cmrm_interp.errors import InputError


def test_a_seed_gives_the_same_pixels():
    first, again, other = scenes(5, 1), scenes(5, 1), scenes(5, 2)
    assert [s.image.tobytes() for s in first] == [s.image.tobytes() for s in again]
    assert [s.image.tobytes() for s in first] != [s.image.tobytes() for s in other]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_where_and_what_it_says(rng, shape, monkeypatch):
    monkeypatch.setattr(pictures, "NOISE", (0.0,))
    for cell in range(4):
        pixels = np.asarray(paint(rng, [Shape(cell, shape, "red")]), dtype=float) / 255
        red = np.abs(pixels - _RGB["red"]).sum(axis=2) < 0.3
        rows, columns = np.nonzero(red)
        assert len(rows) > 15
        assert (rows.mean() > SIZE / 2, columns.mean() > SIZE / 2) == (cell >= 2, cell % 2 == 1)


def test_cells_and_shapes_of_a_picture_are_distinct(rng):
    for _ in range(300):
        objects = draw_objects(rng)
        assert len({o.cell for o in objects}) == len({o.shape for o in objects}) == len(objects) <= 3


def test_captions_name_every_object():
    objects = (Shape(0, "circle", "red"), Shape(3, "cross", "blue"))
    assert caption(objects) == "a red circle at the top left and a blue cross at the bottom right."
    assert caption(()) == "nothing."


def test_questions_are_answered_by_the_picture():
    assert shape_questions(Shape(1, "square", "cyan")) == [
        ("what color is the square?", "the square is cyan."),
        ("where is the square?", "the square is at the top right."),
        ("what is at the top right?", "a cyan square."),
    ]


def test_splits_of_visual_questions_are_other_pictures():
    test = {q.image.tobytes() for q in visual_questions(50, 0, "test")}
    assert not test & {q.image.tobytes() for q in visual_questions(50, 0, "validation")}
    assert not test & {scene.image.tobytes() for scene in scenes(50, 0)}


def test_an_unknown_split_is_named():
    with pytest.raises(InputError, match=r"no split 'exam'"):
        # Unwrapped: the type checker that tests run under would object before the function does.
        inspect.unwrap(visual_questions)(1, 0, "exam")
