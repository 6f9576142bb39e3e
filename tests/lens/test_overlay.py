"""Pictures over an image: the value, word and colour of a patch stand where the patch is."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cmrm_interp import plots
from cmrm_interp.errors import InputError

PICTURE = Image.fromarray(np.arange(32 * 64 * 3, dtype=np.uint32).reshape(32, 64, 3).astype(np.uint8))


def patches(n_rows=2, n_columns=4):
    return pd.DataFrame(
        {"row": r, "column": c, "probability": (r * n_columns + c) / 10, "word": f"w{r}{c}"}
        for r in range(n_rows)
        for c in range(n_columns)
    )


def test_values_and_words_lie_on_their_patches():
    shuffled = patches().sample(frac=1, random_state=0)
    figure = plots.over_image(shuffled, PICTURE, "probability", "word", {"probability": "probability of the top word"})
    plain, covered, bar = figure.axes
    np.testing.assert_array_equal(plain.images[0].get_array(), np.asarray(PICTURE))
    np.testing.assert_allclose(covered.images[1].get_array(), np.arange(8).reshape(2, 4) / 10)
    written = {text.get_text(): text.get_position() for text in covered.texts}
    assert written == {f"w{r}{c}": (c, r) for r in range(2) for c in range(4)}
    assert covered.get_ylim() == (1.5, -0.5), "the first row is at the top, as in the image"
    assert covered.images[0].get_extent() == [-0.5, 3.5, 1.5, -0.5], "the image lies under all patches"
    assert bar.get_ylabel() == "probability of the top word"


def test_an_image_keeps_its_shape():
    plain = plots.over_image(patches(), PICTURE, "probability").axes[0]
    # A cell of this grid is a square of 16 x 16 pixels.
    assert plain.get_aspect() == 1.0
    assert plots.over_image(patches(4, 4), PICTURE, "probability").axes[0].get_aspect() == 0.5


def test_patches_without_a_value_stay_uncoloured():
    table = patches().iloc[:6].assign(probability=[0.1, np.nan, 0.3, 0.4, 0.5, 0.6])
    covered = plots.over_image(table, PICTURE, "probability").axes[1]
    np.testing.assert_array_equal(covered.images[1].get_array().mask, [[0, 1, 0, 0], [0, 0, 1, 1]])


def test_both_signs_have_white_at_zero():
    table = patches().assign(probability=np.linspace(-0.2, 0.5, 8))
    drawn = plots.over_image(table, PICTURE, "probability").axes[1].images[1]
    assert drawn.get_clim() == (-0.5, 0.5)


def test_long_words_are_cut_and_dollars_are_no_formula():
    table = patches().assign(word="counterrevolutionary")
    assert {t.get_text() for t in plots.over_image(table, PICTURE, "probability", "word").axes[1].texts} == {
        "counterrevo…"
    }
    table = patches().assign(word="$5$")
    assert plots.over_image(table, PICTURE, "probability", "word").axes[1].texts[0].get_text() == r"\$5\$"


def test_word_grid_has_the_first_layer_at_the_bottom_and_a_word_in_each_cell():
    table = patches().rename(columns={"row": "layer", "column": "position"}).sample(frac=1, random_state=1)
    figure = plots.word_grid(table, "position", "layer", "probability", "word", {"position": "position (token)"})
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), np.arange(8).reshape(2, 4) / 10)
    assert {t.get_text(): t.get_position() for t in axes.texts} == {
        f"w{r}{c}": (c, r) for r in range(2) for c in range(4)
    }
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("position (token)", "layer")
    assert axes.get_ylim() == (-0.5, 1.5)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (patches().iloc[:0], "nothing to draw"),
        (patches().drop(columns="word"), r"no column \['word'\]"),
        (pd.concat([patches(), patches()]), "more than one row of the table for one patch"),
        (patches().assign(row=-1), "whole numbers from 0"),
        (patches().assign(column=0.5), "whole numbers from 0"),
        (patches().assign(probability=np.nan), "needs finite numbers"),
        (patches().assign(probability=np.inf), "needs finite numbers"),
    ],
)
def test_tables_that_are_no_patches_are_refused(table, message):
    with pytest.raises(InputError, match=message):
        plots.over_image(table, PICTURE, "probability", "word")


def test_two_words_for_one_cell_are_refused():
    table = pd.concat([patches(), patches()])
    with pytest.raises(InputError, match="more than one row for one column and row"):
        plots.word_grid(table, "column", "row", "probability", "word")
