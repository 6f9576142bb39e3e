"""What the organism is fine-tuned on: training words and pictures alone; and what cmrm finetune begins from."""

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cmrm_interp as ci
from cmrm_interp.cli import app
from cmrm_interp.datasets.organism_safety import organism_helpful, organism_safety
from cmrm_interp.datasets.suites import organism_anchors, organism_suites
from cmrm_interp.datasets.synthetic import REFUSAL, WORLD
from cmrm_interp.datasets.synthetic.lexicon import split_tokens
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.families.load import organism_folder
from cmrm_interp.organism import defended
from cmrm_interp.organism.checkpoints import save_checkpoint
from cmrm_interp.organism.config import ModelConfig
from cmrm_interp.organism.instructions import before_instructions, instructions
from cmrm_interp.organism.network import build_network
from tests.support import network, unchecked

LEARNED = [suite for suites in (organism_safety(60), organism_helpful(60)) for suite in suites.values()]


def pixels_of(prompts):
    return {np.asarray(image).tobytes() for prompt in prompts for image in prompt.images}


@pytest.mark.parametrize("suite", LEARNED, ids=lambda suite: suite.name)
def test_only_training_words_are_learned(suite):
    said = " ".join([prompt.text for prompt in suite.prompts] + list(suite.answers))
    assert {WORLD[token].split for token in split_tokens(said) if token in WORLD} <= {"train"}
    assert suite.split == "train"
    assert {answer == REFUSAL for answer in suite.answers} == {suite.kind == "harmful"}
    assert all(bool(prompt.images) != (suite.name.endswith(("text", "words"))) for prompt in suite.prompts)


def test_no_picture_is_one_that_is_judged_or_fitted_on():
    learned = set().union(*(pixels_of(suite.prompts) for suite in LEARNED))
    for split in ("validation", "test"):
        for suite in organism_suites(split, 60).values():
            assert not learned & pixels_of(suite.prompts)
    assert not learned & pixels_of(organism_anchors(60, images=True))


def test_the_same_seed_gives_the_same_data():
    a, b, c = (organism_safety(20, seed)["training, harmful, real"] for seed in (0, 0, 1))
    assert [p.text for p in a.prompts] == [p.text for p in b.prompts] != [p.text for p in c.prompts]
    assert [e.prompt.text for e in instructions(20)] == [e.prompt.text for e in instructions(20)]


def test_mixed_begins_before_instruction_tuning_where_that_stage_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(defended, "_INSTRUCTIONS", 50)
    shutil.copytree(organism_folder(), tmp_path / "mine", ignore=shutil.ignore_patterns("backbone"))
    plan = defended.plan(str(tmp_path / "mine"), "mixed")
    assert plan.source == str(tmp_path / "mine")
    assert "the finished organism: its folder has no stage" in plan.note
    with pytest.raises(ModelError, match=r"has no stages/2a.safetensors: train it, cmrm organism train"):
        before_instructions(tmp_path / "mine")
    before = build_network(ModelConfig(), 3)
    save_checkpoint(before, tmp_path / "mine" / "stages" / "2a.safetensors")
    plan = defended.plan(str(tmp_path / "mine"), "mixed")
    assert all(torch.equal(a, b) for a, b in zip(plan.source[0].parameters(), before.parameters(), strict=True))
    assert len(plan.examples) == 50 + 2 * 400 + 2 * 100
    words = "no way of fine-tuning 'later': use 'mixed', 'post-hoc', 'expert'"
    with unchecked(), pytest.raises(InputError, match=words):
        defended.plan("organism", "later")  # type: ignore[arg-type]


def run(*arguments):
    return CliRunner().invoke(app, ["finetune", *map(str, arguments)])


def test_the_command_on_the_organism(tmp_path, monkeypatch):
    monkeypatch.setattr(defended, "_SIZES", dict.fromkeys(defended.HOW, 8))
    done = run("organism", "--how", "expert", "--steps", 2, "--batch-size", 4, "--out", tmp_path / "expert")
    assert done.exit_code == 0, done.output
    assert "its own refusals to 8 requests as text, learned with images" in done.output
    told = json.loads((tmp_path / "expert" / "finetuning.json").read_text())
    assert (told["settings"]["lora"]["rank"], told["with_image"], told["answers"]) == (16, 8, {REFUSAL: 8})
    assert ci.load(tmp_path / "expert").fingerprint != ci.load("organism", check=False).fingerprint


def test_the_command_on_ones_own_data(tmp_path):
    hf, processor = network("llava")
    hf.save_pretrained(tmp_path / "tiny")
    processor.save_pretrained(tmp_path / "tiny")
    (tmp_path / "bad.csv").write_text("q\nhow do i make a cake ?\n")
    (tmp_path / "good.csv").write_text("q,a\nwhat is this ?,a cake\n")
    bad = f"table:file={tmp_path / 'bad.csv'},request=q"
    good = f"table:file={tmp_path / 'good.csv'},request=q,answer=a,kind=benign"
    given = ["--safety", bad, "--helpful", good, "--refusal", "i do not", "--steps", 2, "--lora", 2]
    done = run(tmp_path / "tiny", "--how", "mixed", "--out", tmp_path / "new", *given)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "this is Mixed only if MODEL is the one before instruction tuning" in done.output
    told = json.loads((tmp_path / "new" / "finetuning.json").read_text())
    assert told["answers"] == {"i do not": 1, "a cake": 1}
    assert (told["settings"]["lr"], told["settings"]["steps"]) == (2e-4, 2)
    ci.load(tmp_path / "new")


OTHER = ("--safety", "table:file=x,request=q", "--helpful", "table:file=y,request=q")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--how", "later"], "no way of fine-tuning 'later': use 'mixed', 'post-hoc', 'expert'"),
        (["--how", "post-hoc"], "post-hoc learns safety, and no data are given for it: --safety vlguard:file="),
        (["--how", "mixed", "--safety", "table:file=x,request=q"], r"--helpful SUITE \(its instruction data"),
        (["--how", "expert", *OTHER], "an expert learns its own refusals of harmful prompts and nothing else: leave"),
    ],
)
def test_data_that_are_missing_are_asked_for(arguments, words, tmp_path):
    with pytest.raises(InputError, match=words):
        raise run("some/model", *arguments, "--out", tmp_path / "new").exception
