"""Pictures side by side."""

import numpy as np
import pytest

from cmrm_interp.errors import InputError
from cmrm_interp.plots import gallery
from tests.support import picture


def test_each_picture_stands_under_its_name():
    pictures = {f"picture {seed}": picture(seed) for seed in range(4)}
    figure = gallery(pictures, columns=3)
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == list(pictures)
    for axes, given in zip(drawn, pictures.values(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), np.asarray(given))
    places = [tuple(round(side, 2) for side in axes.get_subplotspec().get_position(figure).p0) for axes in drawn]
    assert len({y for _, y in places}) == 2


def test_nothing_to_show_is_refused():
    with pytest.raises(InputError, match="0 pictures in 6 columns"):
        gallery({})
    with pytest.raises(InputError, match="1 pictures in 0 columns"):
        gallery({"one": picture()}, columns=0)
