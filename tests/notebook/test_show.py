"""Prompts and answers side by side, before and after."""

import re

import numpy as np
import pytest

import cmrm_interp as ci
from cmrm_interp.errors import InputError
from cmrm_interp.recipes import CMRM, TextOnly
from tests.support import picture, unchecked, vectors

HOW = {"max_new_tokens": 4}
NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def steering(model):
    return ci.Add(vectors(model), 20.0)


def test_answers_are_those_of_generate(model, inputs, steering):
    shown = ci.show(model, inputs, steering, **HOW)
    assert list(shown.answers) == ["before", "after"]
    assert list(shown.answers["before"]) == model.generate(inputs, **HOW)
    assert list(shown.answers["after"]) == model.generate(inputs, steering, **HOW)
    differ = sum(a != b for a, b in zip(*shown.answers.values(), strict=True))
    assert shown.changed == {"after": differ}
    assert differ > 0


def test_with_nothing_done_there_is_one_column(model, inputs):
    for nothing in ((), [], {}):
        assert list(ci.show(model, inputs, nothing, **HOW).answers) == ["answer"]


def test_columns_have_names_and_recipes_answer_themselves(model, inputs, steering):
    recipe = TextOnly().fit(model)
    shown = ci.show(model, inputs, {"twice": [steering, steering], "no image": recipe}, **HOW)
    assert list(shown.answers["twice"]) == model.generate(inputs, [steering, steering], **HOW)
    assert list(shown.answers["no image"]) == recipe.generate(model, inputs, **HOW)


def test_the_table_has_a_row_a_prompt(model, inputs, steering):
    table = ci.show(model, inputs, steering, **HOW).table()
    assert list(table.columns) == ["prompt", "images", "before", "after"]
    assert list(table["prompt"]) == [prompt.text for prompt in inputs.prompts]
    assert list(table["images"]) == [1, 0, 1]


def test_only_the_first_prompts_are_answered(model, monkeypatch):
    inputs = model.prepare([f"what is {n} ?" for n in range(20)])
    rows = []
    whole = type(model).generate
    monkeypatch.setattr(type(model), "generate", lambda m, i, *a, **k: rows.append(len(i)) or whole(m, i, *a, **k))
    shown = ci.show(model, inputs, n=2, **HOW)
    assert rows == [2]
    assert repr(shown).splitlines()[-1] == "... 18 more prompts: n= shows more"
    assert "18 more prompts" in shown._repr_html_()


def test_it_is_read_without_a_notebook(model, inputs, steering):
    shown = ci.show(model, inputs, steering, **HOW)
    first, before, after, *_ = repr(shown).splitlines()
    assert first == f"0. {inputs.prompts[0].text} [1 image]"
    assert before == f"   before: {shown.answers['before'][0]}"
    assert after == f"   after:  {shown.answers['after'][0]}"


def test_the_page_has_pictures_and_is_escaped(model):
    shown = ci.show(model, model.prepare([NASTY, "text"], [picture(), None]), {NASTY: ()}, **HOW)
    page = shown._repr_html_()
    assert NASTY not in page
    assert page.count("&lt;script&gt;") == 3
    assert page.count("<img") == 1
    assert page.count("opacity") == 3, "text only, and two answers that nothing changed"
    assert f"0 of 2 answers are others {NASTY.replace('<', '&lt;').replace('>', '&gt;')}" in page


def test_pictures_are_drawn(model, inputs):
    figure = ci.show(model, inputs, **HOW).plot()
    drawn = [axes for axes in figure.axes if axes.images]
    assert [re.match(r"\d+", axes.get_title())[0] for axes in drawn] == ["0", "2"]
    np.testing.assert_array_equal(drawn[0].images[0].get_array(), np.asarray(inputs.prompts[0].image))
    with pytest.raises(InputError, match="none of these prompts has an image to plot"):
        ci.show(model, inputs.without_images(), **HOW).plot()


def test_what_cannot_be_shown_is_refused(model, inputs, steering):
    with pytest.raises(InputError, match="'before' is the column of the model as it is"):
        ci.show(model, inputs, {"before": steering})
    with pytest.raises(InputError, match="n=0: show at least one prompt"):
        ci.show(model, inputs, n=0)
    with pytest.raises(InputError, match="leave num_return_sequences out"):
        ci.show(model, inputs, num_return_sequences=2, do_sample=True, **HOW)
    with pytest.raises(InputError, match="not fitted"):
        ci.show(model, inputs, CMRM())
    with unchecked(), pytest.raises(InputError, match="mine: int is no intervention, list of interventions or fitted"):
        ci.show(model, inputs, {"mine": 3})
    with pytest.raises(InputError, match="made by from_encoding and have no prompts"):
        ci.show(model, model.from_encoding(inputs.without_images().tensors))
