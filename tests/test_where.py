"""Calls work wherever they come from: scripts, a prompt, notebook magics, exec, threads, event loops, processes."""

import asyncio
import io
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

import cmrm_interp as ci
from tests.support import STREAM, inputs_of, model_of, same

# One line of each kind of call; what they print is compared.
SETUP = """
import torch
torch.set_num_threads(1)
import cmrm_interp as ci
from cmrm_interp.families import tiny
hf, processor = tiny("llama")
hf.generation_config.eos_token_id = None
model = ci.load((hf, processor))
inputs = model.prepare(["red green", "what is a cat ?"])
post = "blocks.*.hook_resid_post"
acts = model.capture(inputs, post)
change = ci.Subtract(ci.mean_diff(acts, model.capture(inputs, post, positions="all")), alpha=3.0)
"""
CALLS = """
print("logits", [round(x, 3) for x in model.logits(inputs, change)[:, :4].flatten().tolist()])
print("hook", [round(x, 3) for x in model.logits(inputs, ci.Hook(post, lambda x, name: 1.5 * x))[:, 0].tolist()])
print("texts", model.generate(inputs, change, 4))
print("pieces", "".join(p for p in model.stream_generate(inputs, change, 4) if p.row == 0))
print("steps", tuple(model.generate_with_capture(inputs, "blocks.1.*", change, 4).tokens.flatten().tolist()))
print("capture", round(float(model.capture(inputs, post, "all", change)["blocks.2.hook_resid_post"].sum()), 2))
"""


def printed(code):
    """What code prints when it is run here, from a string."""
    out = io.StringIO()
    with redirect_stdout(out):
        exec(code, {"__name__": "somewhere"})
    return out.getvalue()


@pytest.fixture(scope="module")
def wanted():
    text = printed(SETUP + CALLS)
    assert [line.split()[0] for line in text.splitlines()] == ["logits", "hook", "texts", "pieces", "steps", "capture"]
    return text


def run(arguments, stdin=""):
    done = subprocess.run([sys.executable, *arguments], input=stdin, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_script(tmp_path, wanted):
    script = tmp_path / "script.py"
    script.write_text(
        f"def main():\n{textwrap.indent(SETUP + CALLS, '    ')}\n\nif __name__ == '__main__':\n    main()\n"
    )
    assert run([str(script)]) == wanted


def test_python_on_standard_input(wanted):
    assert run(["-"], SETUP + CALLS) == wanted


def test_the_interactive_prompt(wanted):
    # Each statement is compiled for itself, as a person at the prompt types it.
    assert run(["-i", "-q"], SETUP + CALLS) == wanted


def test_processes_that_are_spawned(tmp_path, wanted):
    script = tmp_path / "pool.py"
    work = textwrap.indent(SETUP + CALLS.replace("print(", "lines.append(("), "    ")
    work = "\n".join(line + ")" if "lines.append((" in line else line for line in work.splitlines())
    script.write_text(
        "import multiprocessing\n\n"
        f"def work(number):\n    lines = []\n{work}\n    return lines\n\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
        "        one, two = pool.map(work, range(2))\n"
        "    assert one == two\n"
        "    for line in one:\n"
        "        print(*line)\n"
    )
    assert run([str(script)]) == wanted


@pytest.fixture
def shell():
    shell = InteractiveShell.instance()
    shell.reset()
    yield shell
    InteractiveShell.clear_instance()


def cell(shell, code):
    out = io.StringIO()
    with redirect_stdout(out):
        result = shell.run_cell(code)
    result.raise_error()
    return out.getvalue()


@pytest.mark.parametrize("magic", ["", "%%time\n", "%%capture kept\n"])
def test_a_notebooks_cells(shell, wanted, magic):
    cell(shell, SETUP)
    text = cell(shell, magic + CALLS.strip())
    if "capture" in magic:
        text = cell(shell, "print(kept.stdout, end='')")
    assert [line for line in text.splitlines() if line in wanted.splitlines()] == wanted.splitlines()


def test_timeit_in_a_notebook(shell):
    cell(shell, SETUP)
    for line in CALLS.strip().splitlines():
        assert "per loop" in cell(shell, f"%%timeit -n 1 -r 1\n{line.replace('print(', 'str((', 1)})")


@pytest.mark.parametrize("way", ["pool", "asyncio"])
def test_threads(way):
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    changes = [ci.Hook(STREAM, lambda x, _, k=k: x * (1 + k / 10)) for k in range(6)]
    wanted = [(model.logits(inputs, c), model.generate(inputs, c, 3)) for c in changes]

    def both(change):
        return model.logits(inputs, change), model.generate(inputs, change, 3)

    async def together():
        return await asyncio.gather(*(asyncio.to_thread(both, change) for change in changes))

    if way == "asyncio":
        found = asyncio.run(together())
    else:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(both, changes))
    for (logits, texts), (wanted_logits, wanted_texts) in zip(found, wanted, strict=True):
        same(logits, wanted_logits)
        assert texts == wanted_texts


def test_a_coroutine_that_streams():
    model, inputs = model_of("llama"), model_of("llama").prepare("red")

    async def consume():
        pieces = model.stream_generate(inputs, max_new_tokens=4)
        return [piece async for piece in _asynchronous(pieces)]

    assert "".join(asyncio.run(consume())) == model.generate(inputs, max_new_tokens=4)[0]


async def _asynchronous(pieces):
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def test_threads_that_stream_at_once():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    wanted = model.generate(inputs, max_new_tokens=4)

    def read(row):
        return "".join(p for p in model.stream_generate(inputs, max_new_tokens=4) if p.row == row)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(read, range(3))) == wanted


def test_a_class_a_closure_and_a_comprehension():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))

    class Experiment:
        factor = 2.0

        def run(self):
            return [model.logits(inputs, ci.Hook(STREAM, lambda x, _, k=k: k * self.factor * x)) for k in (1, 2)]

    one, two = Experiment().run()
    same(one, model.logits(inputs, ci.Hook(STREAM, lambda x, _: 2.0 * x)))
    assert not torch.equal(one, two)
