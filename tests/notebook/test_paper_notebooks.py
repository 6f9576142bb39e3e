"""The paper's notebooks run as they say on LLaVA and ShareGPT4V: tiny random checkpoints, files in their formats."""

import json
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import pytest
from typer.testing import CliRunner

from cmrm_interp.cli import app
from cmrm_interp.datasets import synthetic
from tests import test_convert
from tests.pages.surroundings import checkpoint
from tests.support import unchecked
from tests.vlsafe_format import write_vlsafe

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SWITCH = re.compile(r'^# (?=MODEL, DATA, HOW = "(.+?)", FILES, GPU$)', re.M)
N = 8


def told(name, kind):
    """The texts of a notebook's cells of a kind."""
    read = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    return [cell.source for cell in read.cells if cell.cell_type == kind]


def on_checkpoints(name):
    """Each checkpoint that a notebook names, with its cells when that line is the one that is not commented out."""
    cells = told(name, "code")
    (place,) = [i for i, cell in enumerate(cells) if SWITCH.search(cell)]
    for line in SWITCH.finditer(cells[place]):
        switched = cells[place][: line.start()] + cells[place][line.end() :]
        fewer, found = re.subn(r"^N(, IMAGES)? = 60", rf"N\1 = {N}", switched, flags=re.M)
        assert found == 1
        yield line[1], [*cells[:place], fewer, *cells[place + 1 :]]


RUNS = {(name, model): cells for name in ("paper_tables", "paper_figures") for model, cells in on_checkpoints(name)}


@pytest.fixture
def readers_folder(tmp_path, monkeypatch):
    """The files that a reader has: VLSafe, XSTest and ScienceQA, in their formats."""
    write_vlsafe(tmp_path, n=60)
    scenes = synthetic.scenes(60, seed=3)
    asked = list(dict.fromkeys(r.text for r in synthetic.requests("benign", "train", 90, 0)))[:60]
    rows = "".join(f"{n},{text},homonyms,safe\n" for n, text in enumerate(asked))
    (tmp_path / "xstest_prompts.csv").write_text(f"id,prompt,type,label\n{rows}")
    problems = {}
    for n, scene in enumerate(scenes):
        (tmp_path / f"images/test/{n}").mkdir(parents=True)
        scene.image.save(tmp_path / f"images/test/{n}/image.png")
        problem = {"question": f"what is in picture {n} ?", "choices": ["a cat", "a dog"], "answer": n % 2}
        problems[str(n)] = {**problem, "hint": "", "image": "image.png", "split": "test"}
    (tmp_path / "problems.json").write_text(json.dumps(problems))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["cmrm_interp.lab"], "TOKENS", 6)  # the name itself is the function
    matplotlib.use("agg")
    return tmp_path


def put(name, model, folder):
    """A checkpoint where a notebook looks for it; ShareGPT4V in its own format, through the command that it names."""
    if model != "sharegpt4v":
        checkpoint("llava", folder / model)
        return
    (command,) = re.findall(r"`cmrm (convert [^`]+)`", "\n".join(told(name, "markdown")))
    words = command.split()
    test_convert.checkpoint(folder / words[1], test_convert.SHARE, pickled=True)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output


def run(name, cells):
    """What the cells define, and the numbers of those whose assertions a model did not meet."""
    names: dict[str, Any] = {"__name__": "__main__"}
    failed = []
    with unchecked():  # as for a reader
        for number, cell in enumerate(cells):
            try:
                exec(compile(cell, f"{name}, code cell {number}", "exec"), names)
            except AssertionError as error:
                # A random model has none of the paper's patterns, which "is a result": no later cell needs these.
                *_, last = traceback.extract_tb(error.__traceback__)
                assert last.filename == f"{name}, code cell {number}", "an assertion of the package"
                failed.append(number)
    return names, failed


def test_both_name_the_papers_models():
    models = {"llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-13b-hf", "sharegpt4v"}
    assert set(RUNS) == {(name, model) for name in ("paper_tables", "paper_figures") for model in models}


@pytest.mark.parametrize(("name", "model"), RUNS)
def test_each_line_to_change_finds_its_model_and_files(name, model, readers_folder):
    put(name, model, readers_folder)
    (place,) = [i for i, cell in enumerate(RUNS[name, model]) if "lab = ci.lab(" in cell or "ci.lab(MODEL" in cell]
    names, _ = run(name, RUNS[name, model][: place + 1])
    assert names["model"].name == model
    assert len(names["lab"].suites["harmful, real"].prompts) == N
    assert len(names["lab"].suites["questions, real"].prompts) == N


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper_tables", "paper_figures"])
@pytest.mark.parametrize("model", ["llava-hf/llava-1.5-7b-hf", "sharegpt4v"])
def test_every_cell_runs_on_a_checkpoint_and_a_vlsafe_file(name, model, readers_folder):
    put(name, model, readers_folder)
    names, failed = run(name, RUNS[name, model])
    assert len(names["asked"]) == N
    assert failed, "random models cannot meet them all"
