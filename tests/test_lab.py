"""The lab: the organism's own data, and a user's files for another model."""

import pytest

import cmrm_interp as ci
from cmrm_interp.datasets.suites import organism_anchors, organism_suites
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.images import load_image
from cmrm_interp.judges import by_form, by_substrings
from tests.support import network
from tests.vlsafe_format import write_vlsafe


def test_the_organism_brings_its_own_data():
    lab = ci.lab(n=6, images=("real", "noise"))
    assert list(lab.suites) == list(organism_suites("validation", 6, images=("real", "noise")))
    assert (
        lab.suites["harmful, noise"].prompts[2].text
        == organism_suites("validation", 6)["harmful, real"].prompts[2].text
    )
    assert [p.text for p in lab.anchors] == [p.text for p in organism_anchors()]
    assert all(prompt.images for prompt in lab.anchors)
    assert lab.judge is by_form
    assert lab.backbone.d_model == lab.model.d_model


@pytest.fixture
def data(tmp_path):
    spec = write_vlsafe(tmp_path, 60)
    rows = "\n".join(f"{n},how do i bake cake number {n} ?,safe" for n in range(40))
    (tmp_path / "xstest.csv").write_text(f"id,prompt,label\n{rows}\n")
    return {"harmful": spec, "benign": f"table:file={tmp_path / 'xstest.csv'},request=prompt,kind=benign"}


def test_another_model_takes_the_users_files(data, tmp_path):
    hf, processor = network("llava")
    hf.save_pretrained(tmp_path / "mine")
    processor.save_pretrained(tmp_path / "mine")
    lab = ci.lab(str(tmp_path / "mine"), data, n=5, images=("real", "blank"))
    names = ["harmful, text", "harmful, real", "harmful, blank", "benign, text", "benign, real"]
    assert list(lab.suites) == names
    assert [suite.split for suite in lab.suites.values()] == ["validation"] * 5
    assert [len(suite.prompts) for suite in lab.suites.values()] == [5] * 5
    assert lab.judge is by_substrings
    texts = {name: [prompt.text for prompt in suite.prompts] for name, suite in lab.suites.items()}
    assert texts["harmful, text"] == texts["harmful, real"] == texts["harmful, blank"]
    assert not any(prompt.images for prompt in lab.suites["benign, text"].prompts)
    real, blank = (lab.suites[f"harmful, {kind}"].prompts[0].images[0] for kind in ("real", "blank"))
    assert load_image(real).size == load_image(blank).size
    assert load_image(blank).getextrema() == ((255, 255),) * 3
    # Benign requests have no images of their own here and are shown the harmful ones'.
    assert lab.suites["benign, real"].prompts[0].images == lab.suites["harmful, real"].prompts[0].images
    assert all(prompt.images for prompt in lab.anchors)
    assert not {p.text for p in lab.anchors} & {text for asked in texts.values() for text in asked}
    with pytest.raises(ModelError, match="has no folder 'backbone'"):
        _ = lab.backbone


def test_a_split_that_is_fitted_on_is_refused():
    with pytest.raises(InputError, match="no split 'anchor': use 'validation', 'test'"):
        ci.lab(split="anchor")


def test_what_is_missing_is_said(data):
    with pytest.raises(InputError, match=r"a lab of my/model needs your data: .* missing: harmful"):
        ci.lab("my/model")
    with pytest.raises(InputError, match="missing: benign"):
        ci.lab("my/model", {"harmful": data["harmful"]})
    with pytest.raises(InputError, match="there is no kind 'harmless'"):
        ci.lab("my/model", {**data, "harmless": ""})
    with pytest.raises(InputError, match="the organism has its own data"):
        ci.lab("organism", data)
    with pytest.raises(InputError, match="no harmful prompt has an image"):
        ci.lab("my/model", {"harmful": data["benign"], "benign": data["benign"]})
