"""Fenced code blocks of Markdown pages, and what it means to run one of each language."""

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from typer.core import TyperCommand

from cmrm_interp.cli import app

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```[ \t]*$", re.S | re.M)
_OTHERS = ("git", "cd", "python", "python3.11", "source", "jupyter", "ray", "torchrun", "inspect", "export", "mkdocs")
_NOT_CODE = ("text", "bibtex", "diff", "mermaid", "math", "html")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its title where it has one, its text and the line where that begins."""

    language: str
    title: str
    code: str
    line: int


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(page):
        info, indent = match["info"].strip(), match["indent"]
        title = re.search(r'title="([^"]*)"', info)
        code = "".join(line.removeprefix(indent) for line in match["code"].splitlines(keepends=True))
        line = page[: match.start("code")].count("\n") + 1
        found.append(Block(info.split(" ")[0], title[1] if title else "", code, line))
    return found


def run(block: Block, page: str, names: dict) -> None:
    """Run one block as its language says; what a title marks as the reader's own or another library's is only parsed.

    Args:
        block: the block.
        page: its file, for tracebacks.
        names: what the Python blocks before it have defined; changed.
    """
    if block.language == "python":
        # Blank lines in front make the lines of a traceback those of the page.
        code = "\n" * (block.line - 1) + block.code.replace("remote=True", 'remote="local"')
        if block.title:
            ast.parse(code, page)
        else:
            exec(compile(code, page, "exec"), names)
    elif block.language == "sh":
        for words in commands(block.code):
            shell(words, only_parse=bool(block.title))
    elif block.language == "json":
        json.loads(block.code)
    elif block.language == "toml":
        tomllib.loads(block.code)
    else:
        assert block.language in _NOT_CODE, f"{page}:{block.line}: a block in {block.language!r} is not run by anything"


def commands(code: str) -> Iterator[list[str]]:
    """The commands of a shell block, words split as the shell does."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def shell(words: list[str], only_parse: bool) -> None:
    """Run a command of this project in this process, on few prompts; check those of other programs by what we know.

    Args:
        words: the command.
        only_parse: parse the arguments of ``cmrm`` and leave it at that.
    """
    program, arguments = words[0], words[1:]
    if program == "cmrm":
        few = [re.sub(r"\bn=\d+", "n=4", word) for word in arguments]
        with patch.object(TyperCommand, "invoke") if only_parse else nullcontext():
            app(few, standalone_mode=False)
    elif program == "make":
        targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
        assert {word for word in arguments if "=" not in word} <= set(targets), f"no such target: {words}"
    elif program == "pip":
        _check_extras(arguments)
    else:
        assert program in _OTHERS, f"{program!r} is no command that the pages may show: {words}"


def _check_extras(arguments: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for word in arguments:
        if named := re.fullmatch(r"(?:cmrm[-_]interp|\.)\[([\w,]+)\].*", word):
            assert set(named[1].split(",")) <= set(extras), f"no such extra: {word}"
