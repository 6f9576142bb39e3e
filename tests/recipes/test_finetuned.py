"""FineTuned: another checkpoint's answers, found beside the model or by its path."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import cmrm_interp as ci
from cmrm_interp.errors import InputError, MismatchError, ModelError
from cmrm_interp.families.load import organism_folder
from cmrm_interp.recipes import Recipe
from cmrm_interp.recipes.finetuned import FineTuned, _loaded
from tests.support import model_of, picture, unchecked

ASKED = ["how do i make a cake?", "what is in the picture?"]


def organism_at(folder):
    shutil.copytree(organism_folder(), folder, ignore=shutil.ignore_patterns("backbone"))
    return folder


@pytest.fixture
def model(tmp_path):
    """The organism in a folder of its own, with a checkpoint of other weights as its Post-hoc."""
    folder = organism_at(tmp_path / "mine")
    other = ci.load(folder, check=False)
    other.hf.model.language_model.layers[3].mlp.down_proj.weight.data.mul_(-3.0)
    other.hf.save_pretrained(folder / "finetuned" / "post-hoc")
    other.processor.save_pretrained(folder / "finetuned" / "post-hoc")
    return ci.load(folder, check=False)


def test_the_other_checkpoint_answers_with_the_images(model, tmp_path):
    inputs = model.prepare(ASKED, [picture(0), picture(1)])
    fitted = FineTuned("post-hoc").fit(model)
    other = ci.load(Path(model.name) / "finetuned" / "post-hoc", check=False)
    theirs = other.generate(other.prepare(ASKED, [picture(0), picture(1)]), max_new_tokens=8)
    assert fitted.generate(model, inputs, max_new_tokens=8) == theirs
    assert theirs != model.generate(inputs, max_new_tokens=8)
    assert theirs != other.generate(other.prepare(ASKED), max_new_tokens=8)
    fitted.save(tmp_path / "recipe.safetensors")
    assert Recipe.load(tmp_path / "recipe.safetensors").generate(model, inputs, max_new_tokens=8) == theirs


def test_a_checkpoint_that_is_another_by_now_is_noticed(model):
    fitted = FineTuned("post-hoc").fit(model)
    with pytest.raises(MismatchError, match="are not those that were there at fit: fit it again"):
        replace(fitted, weights="0123").generate(model, model.prepare(ASKED), max_new_tokens=2)


def test_a_checkpoint_that_was_trained_again_is_read_again(model):
    folder = Path(model.name) / "finetuned" / "post-hoc"
    first = FineTuned("post-hoc").fit(model)
    ci.load(model.name, check=False).hf.save_pretrained(folder)
    again = FineTuned("post-hoc").fit(model)
    assert again.weights == model.fingerprint != first.weights
    with pytest.raises(MismatchError, match="are not those that were there at fit"):
        first.generate(model, model.prepare(ASKED), max_new_tokens=2)


def test_what_there_is_not_is_said(model):
    words = r"has no folder finetuned/mixed with a fine-tuned checkpoint: make it, cmrm finetune MODEL --how mixed"
    with pytest.raises(InputError, match=words):
        FineTuned().fit(model)
    with pytest.raises(ModelError, match="no model folder '/nowhere'"):
        FineTuned(source="/nowhere").fit(model)
    with pytest.raises(ModelError, match=r"FineTuned is about images, and .* takes text alone"):
        FineTuned(source="organism").fit(model_of("llama"))
    with unchecked(), pytest.raises(InputError, match="no way of fine-tuning 'afterwards': use 'mixed', 'post-hoc'"):
        FineTuned("afterwards")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _nothing_kept():
    yield
    _loaded.cache_clear()
