"""The explorer: driven by its widgets' values here, and by a hand on a slider in a real browser."""

import asyncio

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.notebook.debounce import Debounced
from docs import screenshots
from tests.support import vectors

HOW = {"max_new_tokens": 4}


@pytest.fixture(scope="module")
def steering(model):
    return vectors(model, scale=10.0)


@pytest.fixture
def explorer(model, inputs, steering):
    return ci.explore(model, inputs, steering, ci.Add, **HOW)


def test_at_first_nothing_is_changed(model, inputs, explorer):
    assert explorer.alpha.value == 0
    assert explorer.before == explorer.after == model.generate(inputs, **HOW)[0]
    assert explorer.problem == ""


def test_the_answer_follows_the_sliders(model, inputs, steering, explorer):
    explorer.alpha.value = 1.5
    explorer.layers.value = (1, 2)
    explorer.position.value = "all"
    explorer.prompt.value = 1
    wanted = ci.Add(steering, 1.5, "all", layers=(1, 2))
    one = model.prepare([inputs.prompts[1]])
    assert explorer.intervention == wanted
    assert explorer.before == model.generate(one, **HOW)[0]
    assert explorer.after == model.generate(one, wanted, **HOW)[0] != explorer.before
    assert "prompt 1, layers 1-2, alpha 1.5, 'all'" in repr(explorer)
    assert "Add(directions, alpha=1.5, positions=&#x27;all&#x27;, layers=(1, 2))" in explorer._view.value


def test_the_untouched_answer_is_made_once_a_prompt(explorer, monkeypatch):
    calls = []
    whole = type(explorer.model).generate
    monkeypatch.setattr(
        type(explorer.model), "generate", lambda m, i, *a, **k: calls.append(len(a)) or whole(m, i, *a, **k)
    )
    explorer.alpha.value = 0.5
    explorer.alpha.value = 1.0
    assert calls == [1, 1]


def test_an_error_is_said_in_words_and_goes_away(model, inputs, steering):
    def clamp(directions, alpha, positions, layers):
        return ci.Clamp(directions, low=alpha, high=1.0, positions=positions, layers=layers)

    explorer = ci.explore(model, inputs, steering, clamp, **HOW)
    explorer.alpha.value = 1.5
    assert explorer.problem == "Clamp from 1.5 to 1.0: low is above high"
    assert explorer.after == ""
    assert f"<b>{explorer.problem}</b>" in explorer._view.value
    assert "Clamp from 1.5" in repr(explorer)
    explorer.alpha.value = 0.5
    assert explorer.problem == ""
    assert explorer.after == model.generate(inputs, explorer.intervention, **HOW)[0]
    assert "Clamp from 1.5" not in explorer._view.value


def test_a_vector_a_row_goes_with_its_prompt(model, inputs):
    rows = ci.Directions({"blocks.1.hook_resid_post": torch.eye(model.d_model)[:3] * 30}, rows="batch")
    explorer = ci.explore(model, inputs, rows, ci.Add, **HOW)
    explorer.alpha.value, explorer.prompt.value = 1.0, 2
    whole = model.generate(inputs, ci.Add(rows, 1.0), **HOW)
    assert explorer.after == whole[2]
    with pytest.raises(MismatchError, match="directions for 3 rows and inputs of 2 rows"):
        ci.explore(model, model.prepare(["a", "b"]), rows)


def test_one_layer_and_one_prompt_leave_nothing_to_slide(model):
    one = vectors(model, "blocks.2.hook_resid_post")
    explorer = ci.explore(model, model.prepare("hello"), one, ci.ProjectOut, alphas=(-1.0, 1.0), **HOW)
    assert (explorer.prompt.disabled, explorer.layers.disabled) == (True, True)
    assert explorer.intervention == ci.ProjectOut(one, 0.0, "last", layers=(2,))


def test_what_notebooks_are_given_are_the_widgets(explorer):
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.widget.model_id


def test_what_cannot_be_explored_is_refused(model, inputs, steering, monkeypatch):
    with pytest.raises(InputError, match="no direction lies at a layer of the decoder: they are at ln_final"):
        ci.explore(model, inputs, ci.Directions({"ln_final.hook_normalized": torch.ones(model.d_model)}))
    with pytest.raises(InputError, match=r"alphas=\(1.0, 1.0\): give the lower end first"):
        ci.explore(model, inputs, steering, alphas=(1.0, 1.0))
    with pytest.raises(InputError, match="made by from_encoding and have no prompts"):
        ci.explore(model, model.from_encoding(inputs.without_images().tensors), steering)
    monkeypatch.setattr("cmrm_interp.notebook.exploring.find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r'ci.explore needs ipywidgets: pip install "cmrm-interp\[notebooks\]"'
    ):
        ci.explore(model, inputs, steering)


def test_only_the_last_of_many_moves_is_answered():
    calls = []

    async def drag():
        moved = Debounced(lambda: calls.append("answered"), 0.05)
        for _ in range(20):
            moved()
            await asyncio.sleep(0.001)
        assert calls == []
        await asyncio.sleep(0.5)
        moved()
        await asyncio.sleep(0.5)

    asyncio.run(drag())
    assert calls == ["answered"] * 2


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
def test_in_a_browser_the_answer_follows_the_slider():
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
    pytest.importorskip("jupyterlab", reason="needs jupyterlab")
    if screenshots.chromium() is None:
        pytest.skip("needs Chromium: there is none on the PATH")
    with screenshots.explorer() as found:
        found.wait("alpha=0.0")
        first = found.shown()
        assert first["before"] == first["after"] != ""
        found.slide("alpha", 13)
        found.wait("alpha=0.65")
        moved = found.shown()
        assert moved["prompt"] == first["prompt"]
        assert moved["before"] == first["before"]
        assert moved["after"] not in ("", first["after"])
        found.choose("position", "generated")
        found.wait("positions='generated'")
        found.slide("alpha", -13)
        found.wait("alpha=0.0")
        assert found.shown()["after"] == first["before"]
