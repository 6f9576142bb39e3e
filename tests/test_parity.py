"""The comparison with TransformerLens notices what it is there for; the job itself is `make parity`."""

import pytest
import torch
from safetensors.torch import save_file

from parity import patching
from parity.cases import Model
from parity.compare import compare
from parity.edits import edits

PATTERN, SCORES = "blocks.0.attn.hook_pattern", "blocks.0.attn.hook_attn_scores"
SHAPES = {"hook_embed": (2, 3, 4), "blocks.0.hook_resid_post": (2, 3, 4), PATTERN: (2, 1, 3, 3)}
POINTS = [*SHAPES, SCORES]
MODEL = Model("llama", tuple(POINTS))
NATIVE = Model("qwen2_5_vl", tuple(SHAPES), native=True)


def values():
    """What one side holds; the left column of the first row is padding."""
    generator = torch.Generator().manual_seed(0)
    held = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    # What TransformerLens holds where it leaves attention alone.
    held[SCORES] = held[PATTERN].clone()
    held["logits"] = torch.randn(2, 3, 5, generator=generator)
    return held


def compared(folder, theirs=None, model=MODEL, ours_written=1.0, theirs_written=1.0):
    """Result for two sides that differ as told."""
    ours = values()
    theirs = {"embed.hook_out": ours["hook_embed"], **ours} if theirs is None else theirs
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    save_file({"attention_mask": mask}, folder / "inputs.safetensors")
    save_file(ours, folder / "ours.safetensors")
    save_file({name: tensor.clone() for name, tensor in theirs.items()}, folder / "theirs.safetensors")
    save_file({"hook_embed": torch.zeros(1)}, folder / "noise.safetensors")
    for side, moved in (("ours", ours_written), ("theirs", theirs_written)):
        save_file(
            {} if moved is None else {"hook_embed": ours["logits"] + moved}, folder / f"{side}_written.safetensors"
        )
    return compare(model, POINTS, folder)


def test_equal_sides_are_equal(tmp_path):
    found = compared(tmp_path)
    assert found.wrong == []
    assert found.reads == dict.fromkeys(POINTS, 0.0)
    assert found.writes == {"hook_embed": 0.0}


def test_padding_may_differ(tmp_path):
    theirs = values()
    theirs["hook_embed"][0, 0] += 1
    theirs[PATTERN][0, :, 0] += 1
    theirs["logits"][0, 0] = float("nan")
    assert compared(tmp_path, theirs).wrong == []


@pytest.mark.parametrize("amount", [2e-5, float("nan"), float("inf")])
@pytest.mark.parametrize("name", [*POINTS, "logits"])
def test_a_value_that_differs_is_named(tmp_path, name, amount):
    theirs = values()
    theirs[name][1, 0, 0] += amount
    assert [words.split(":")[0] for words in compared(tmp_path, theirs).wrong] == [name]


def test_an_alias_that_holds_another_value_is_found(tmp_path):
    theirs = {**values(), "embed.hook_out": values()["blocks.0.hook_resid_post"]}
    assert "hook_embed: differs by" in compared(tmp_path, theirs).wrong[0]


def test_shapes_and_names_that_one_side_lacks_are_named(tmp_path):
    theirs = {**values(), "hook_embed": torch.zeros(2, 3), "rotary_emb.hook_cos": torch.zeros(2)}
    del theirs["blocks.0.hook_resid_post"]
    found = compared(tmp_path, theirs)
    assert found.wrong[0] == "hook_embed: shape (2, 3, 4) here, (2, 3) there"
    assert "blocks.0.hook_resid_post was not compared" in found.wrong
    assert (found.only_ours, found.only_theirs) == (["blocks.*.hook_resid_post"], ["rotary_emb.hook_cos"])
    asked = Model("llama", ("blocks.*.hook_nothing",))
    assert compared(tmp_path, model=asked).wrong == ["blocks.*.hook_nothing was not compared"]


def test_writes_are_compared_and_must_be_felt(tmp_path):
    assert compared(tmp_path, theirs_written=1.1).wrong[0].startswith("write at hook_embed: logits differ by 1.0e-01")
    assert compared(tmp_path, ours_written=0.0, theirs_written=0.0).wrong == ["write at hook_embed: nothing moved"]
    no_place = "write at hook_embed: TransformerLens has no such place to write at"
    assert compared(tmp_path, theirs_written=None).wrong == [no_place]


def test_scores_that_are_scores_are_noticed(tmp_path):
    theirs = values()
    assert compared(tmp_path, theirs, NATIVE).wrong == []
    theirs[SCORES] = theirs[SCORES] + 1
    found = compared(tmp_path, theirs, NATIVE)
    assert found.wrong == [f"{SCORES}: TransformerLens has real scores now; compare them"]


def test_edits_have_their_place_on_the_other_side():
    names = [f"blocks.1.{name}" for name in ("hook_resid_mid", "attn.hook_pattern", "ln1.hook_scale")]
    names += ["vision.blocks.0.hook_mlp_out", "projector.hook_out", "blocks.2.hook_resid_mid"]
    assert [(edit.theirs, edit.kind) for edit in edits(names, native=False)] == [
        ("blocks.1.hook_attn_out", "add"),
        ("blocks.1.attn.hook_pattern", "mix"),
        ("blocks.1.ln1.hook_scale", "scale"),
        ("vision_encoder.encoder_layers.0.hook_mlp_out", "add"),
        ("vision_projector.hook_out", "add"),
    ]
    assert len(edits(names, native=True)) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"theirs": {"resid_pre": torch.full((2, 3), 0.5)}}, ["TransformerLens's patched run is not the run without"]),
        ({"theirs": {"attribution": torch.ones(4)}}, ["TransformerLens tells two images apart by attribution"]),
        ({"ours": {"blind": torch.tensor(0.5)}}, ["the image makes no difference", "TransformerLens's patched run"]),
        ({"ours": {"ours": torch.zeros(2, 3)}}, ["our patched run has lost", "differ from those", "do not differ"]),
        ({"ours": {"hooks": torch.ones(2, 3)}}, ["our patched runs differ from those of plain hooks"]),
        ({"ours": {"quick": torch.full((2, 3), 0.5)}}, ["our attribution sees no difference"]),
    ],
)
def test_patching_that_sees_is_told_from_patching_that_does_not(tmp_path, changes, words):
    grid = torch.tensor([[0.5, 0.6, 0.7], [0.5, 0.8, 0.9]])
    ours = {"ours": grid, "quick": grid + 0.1, "hooks": grid.clone(), "seeing": grid[0, 0], "blind": torch.tensor(0.1)}
    theirs = {"resid_pre": torch.full((2, 3), 0.1), "attribution": torch.zeros(4)}
    for name, held in (("ours", ours), ("theirs", theirs)):
        held = {key: tensor.clone() for key, tensor in (held | changes.get(name, {})).items()}
        save_file(held, tmp_path / f"{name}_patched.safetensors")
    found = patching.compare(tmp_path)
    assert len(found) == len(words)
    assert all(word in one for word, one in zip(words, found, strict=True))
    assert "TransformerLens 0." in patching.told(tmp_path)
