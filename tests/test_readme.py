"""The README's Python blocks: those on the shipped organism run, the one on a real checkpoint at least parses."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if "llava-hf" not in b], ids=["ten lines", "primitives", "experiments"]
)
def test_block_runs_as_it_stands(block):
    exec(compile(block, "README.md", "exec"), {})


def test_block_on_a_real_checkpoint_parses():
    (block,) = [b for b in BLOCKS if "llava-hf" in b]
    compile(block, "README.md", "exec")


def test_the_two_commands_are_shown():
    text = README.read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text
