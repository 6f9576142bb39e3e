"""Defences by name, and the anchors that a recipe is not scored on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import cmrm_interp as ci
from cmrm_interp.datasets.suites import Suite, organism_anchors, organism_suites
from cmrm_interp.errors import InputError, MismatchError, StoreError
from cmrm_interp.evaluation.anchors import anchors_of
from cmrm_interp.evaluation.defences import DEFENCES, check_defence, defence, register
from cmrm_interp.recipes import CMRM, CaptionInstead, OtherModel, Recipe, TextOnly, own_anchors, refuse_anchors
from cmrm_interp.recipes.base import KIND
from cmrm_interp.store import load as load_tensors
from cmrm_interp.store import save as save_tensors
from tests.support import fresh, model_of, picture

FEW = "organism:n=8"


@pytest.fixture(scope="module")
def organism():
    return ci.load("organism")


@pytest.fixture(scope="module")
def chosen(organism):
    return json.loads(Path(organism.name, "recipes.json").read_text())


def settings(recipe, names):
    return {name: getattr(recipe, name) for name in names}


def test_none_is_the_bare_model(organism):
    assert defence("none", organism) is None


def test_cmrm_of_the_organism_has_the_settings_that_were_chosen(organism, chosen):
    recipe = defence("cmrm", organism, FEW)
    assert settings(recipe, chosen["cmrm"]) == chosen["cmrm"]
    assert recipe.shift == CMRM(**chosen["cmrm"]).fit(organism, organism_anchors(8)).shift


def test_settings_of_a_spec_are_all_there_are(organism):
    recipe = defence("cmrm:alpha=0.5,steps=prefill,layers=[2,3]", organism, FEW)
    assert (recipe.alpha, recipe.steps, recipe.layers, recipe.application) == (0.5, "prefill", (2, 3), "live")


def test_every_variant_has_its_name(organism, chosen):
    for number, (name, wanted) in enumerate(chosen["variants"].items()):
        slug = name.replace(", ", "-").replace(" ", "-")
        spec = f"cmrm:variant={slug}" if number % 2 else f'cmrm:variant="{name}"'
        assert settings(defence(spec, organism, "organism:n=2"), wanted) == wanted
    assert defence("cmrm:variant=sample-level,alpha=2.0", organism, FEW).alpha == 2


def test_the_sample_level_needs_no_anchors(organism, chosen):
    assert settings(defence("cmrm-sample", organism), ("level", "alpha")) == {"level": "sample", "alpha": 0.5}
    assert defence("cmrm-sample:alpha=2.0", model_of("llava")).alpha == 2


def test_the_random_vector_has_the_norms_of_the_fitted_one(organism):
    drawn, again, other = (defence(f"random-vector:seed={seed}", organism, FEW) for seed in (1, 1, 2))
    fitted = defence("cmrm", organism, FEW)
    assert drawn.shift == again.shift != other.shift
    assert drawn.shift == fitted.randomised(1).shift
    for name, norm in fitted.shift.norms().items():
        assert float(drawn.shift.norms()[name]) == pytest.approx(float(norm))


def test_controls(organism):
    caption = defence("caption", organism)
    assert (type(caption), caption.question, caption.max_new_tokens) == (CaptionInstead, "describe the image .", 24)
    assert defence("caption:question=what ?", model_of("llava")).question == "what ?"
    assert isinstance(defence("text-only", organism), TextOnly)
    backbone = defence("backbone", organism)
    assert isinstance(backbone, OtherModel)
    assert backbone.other.family.vision is None
    assert (
        defence(f"backbone:model={organism.name}/backbone", model_of("llava")).other.fingerprint
        == backbone.other.fingerprint
    )


def test_text_only_answers_the_text_alone(organism):
    prompts = [replace(p, image=picture(row)) for row, p in enumerate(organism_anchors(4))]
    said = TextOnly().fit(organism).generate(organism, organism.prepare(prompts), max_new_tokens=8)
    assert said == organism.generate(organism.prepare([p.text for p in prompts]), max_new_tokens=8)


@pytest.mark.parametrize(
    ("recipe", "kept"),
    [(CMRM(alpha=0.5, layers=[1]), ("alpha", "layers")), (CaptionInstead("what ?"), ("question",)), (TextOnly(), ())],
)
def test_a_saved_recipe_is_a_defence(tmp_path, recipe, kept):
    model, path = model_of("llava"), tmp_path / "recipe.safetensors"
    fitted = recipe.fit(model, ["hello", "you"])
    fitted.save(path)
    back = defence(str(path), model)
    assert type(back) is type(fitted) is type(Recipe.load(path))
    for name in ("model", "anchors", *kept):
        assert getattr(back, name) == getattr(fitted, name)
    with pytest.raises(MismatchError, match="was fitted on another model"):
        defence(str(path), fresh("llava", seed=3))
    with pytest.raises(InputError, match="is a saved recipe, which has its settings: leave out alpha"):
        defence(f"{path}:alpha=1", model)


def test_a_file_of_another_version_is_refused(tmp_path):
    model, path = model_of("llava"), tmp_path / "recipe.safetensors"
    CMRM().fit(model, ["hello"]).save(path)
    tensors, header = load_tensors(path, kind=KIND)
    save_tensors(path, tensors, {**header, "fields": header["fields"].replace('"alpha"', '"beta"')})
    with pytest.raises(StoreError, match="has beta, which CMRM has not: fit the recipe again"):
        Recipe.load(path)
    del header["fields"]
    save_tensors(path, tensors, header)
    with pytest.raises(StoreError, match="was written by an older version: fit the recipe again"):
        Recipe.load(path)


def test_a_file_is_read_as_what_it_is(tmp_path):
    path = tmp_path / "recipe.safetensors"
    TextOnly(model="a").save(path)
    with pytest.raises(StoreError, match="holds the recipe 'TextOnly' and not CMRM"):
        CMRM.load(path)
    save_tensors(path, {}, {"kind": KIND, "recipe": "Mine"})
    with pytest.raises(StoreError, match="holds the recipe 'Mine', which there is not here: import the module"):
        Recipe.load(path)
    with pytest.raises(InputError, match="a OtherModel cannot be saved"):
        OtherModel(model_of("llama")).save(path)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            "cmmr",
            r"no defence 'cmmr': did you mean 'cmrm'\? there are .*backbone, .*cmrm, .*files of saved recipes",
        ),
        ("nowhere.safetensors", "no defence 'nowhere.safetensors'"),
        ("none:alpha=1", "none has no argument 'alpha'"),
        ("cmrm:strength=1", "cmrm has no argument 'strength': use level, alpha"),
        ("cmrm:shift=1", "cmrm has no argument 'shift'"),
        ("cmrm-sample:beta=1", "cmrm-sample has no argument 'beta'"),
        ("cmrm-sample:level=dataset", "cmrm-sample has no argument 'level'"),
        ("random-vector:beta=1", "random-vector has no argument 'beta'"),
        ("caption:words=1", "caption has no argument 'words': use question"),
        ("text-only:a=1", "text-only has no argument 'a'"),
        ("backbone:path=1", "backbone has no argument 'path': use model"),
        ("cmrm:variant=live", r"has no variant 'live' of CMRM: there are live-every-step, incremental-prefill"),
    ],
)
def test_what_there_is_not_is_refused_in_words(organism, spec, words):
    with pytest.raises(InputError, match=words):
        defence(spec, organism, FEW)


def test_other_models_have_no_settings_anchors_or_backbone_of_their_own():
    model = model_of("llava")
    with pytest.raises(InputError, match=r"none were given: anchors=FILE"):
        defence("cmrm", model)
    with pytest.raises(InputError, match="there are none, since no settings were chosen for this model"):
        defence("cmrm:variant=any", model, ["hello"])
    with pytest.raises(InputError, match="say where it is, backbone:model=PATH"):
        defence("backbone", model)
    assert defence("cmrm", model, ["hello"]).alpha == 1


def test_a_defence_can_be_added():
    register("mine")(lambda bench, settings: TextOnly().fit(bench.model))
    try:
        check_defence("mine")
        assert isinstance(defence("mine", model_of("llava")), TextOnly)
        with pytest.raises(InputError, match="the defence 'mine' is registered already"):
            register("mine")
    finally:
        del DEFENCES["mine"]


def test_anchors_from_files(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n two \n")
    assert anchors_of(str(tmp_path / "a.txt")) == [ci.Prompt("one"), ci.Prompt("two")]
    picture().save(tmp_path / "p.png")
    (tmp_path / "a.jsonl").write_text('{"text": "one", "image": "p.png"}\n{"text": "two", "system": "be"}\n')
    assert anchors_of(str(tmp_path / "a.jsonl")) == [
        ci.Prompt("one", tmp_path / "p.png"),
        ci.Prompt("two", system="be"),
    ]
    assert anchors_of("organism:n=6,seed=3") == organism_anchors(6, 3)
    assert anchors_of(None, organism=True) == organism_anchors()
    (tmp_path / "a.csv").write_text("question\none\ntwo\n")
    suite = f"table:file={tmp_path / 'a.csv'},request=question"
    assert [prompt.text for prompt in anchors_of(suite)] == ["one", "two"]
    assert anchors_of(["one", ci.Prompt("two")]) == [ci.Prompt("one"), ci.Prompt("two")]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "one", r"a.csv: give a .txt file"),
        ("b.txt", None, "there is no such file"),
        ("c.txt", "\n", "the file has no prompts"),
        ("d.jsonl", '{"text": "one"}\n{', "d.jsonl, line 2: no JSON"),
        ("e.jsonl", '{"prompt": "one"}', "e.jsonl, line 1: a row needs 'text'"),
    ],
)
def test_bad_files_of_anchors(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        anchors_of(str(tmp_path / name))


def test_a_recipe_is_not_scored_on_its_anchors():
    recipe = CMRM().fit(model_of("llava"), ["tell me  a", "tell me b", "tell me c", "tell me d"])
    prompts = (ci.Prompt("other"), ci.Prompt(" tell me a"), ci.Prompt("tell me b", picture()), ci.Prompt("tell me A"))
    assert own_anchors(recipe, prompts) == [1, 2]
    with pytest.raises(
        InputError, match=r"2 of the 4 prompts of 'mine' are anchors .* this CMRM .*\(ids 2, 3\): score"
    ):
        refuse_anchors(recipe, Suite("mine", "harmful", prompts))
    many = tuple(ci.Prompt(f"tell me {letter}") for letter in "abcd")
    with pytest.raises(InputError, match=r"4 of the 4 .*\(ids 1, 2, 3, ...\)"):
        refuse_anchors(recipe, Suite("mine", "harmful", many))
    refuse_anchors(recipe, Suite("mine", "harmful", prompts[:1]))
    refuse_anchors(None, Suite("mine", "harmful", prompts))
    refuse_anchors(CMRM(level="sample").fit(model_of("llava")), Suite("mine", "harmful", prompts))


def test_anchors_with_images_are_told_apart_by_them():
    recipe = CMRM().fit(model_of("llava"), [ci.Prompt("what is it ?", picture(0))])
    prompts = [ci.Prompt("what is it ?", picture(0)), ci.Prompt("what is it ?", picture(1)), ci.Prompt("what is it ?")]
    assert own_anchors(recipe, prompts) == [0, 2]


def test_the_anchors_of_the_organism_are_in_none_of_its_suites(organism):
    recipe = defence("cmrm", organism)
    assert len(recipe.anchors) > 200
    for suite in organism_suites("test", 20).values():
        refuse_anchors(recipe, suite)
    assert defence("random-vector", organism).anchors == recipe.anchors
