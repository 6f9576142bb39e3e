"""Exercises of the lessons: their placeholders, checks and folded answers, and what of a lesson they need."""

import ast
import builtins
import symtable
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import TypeGuard

import nbformat

from tests.pages.blocks import blocks

LESSONS = sorted(Path(__file__).parents[2].glob("tutorials/*.ipynb"))


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson.

    Attributes:
        before: code cells in front of it.
        cell: the cell with ``name = ...`` placeholders.
        names: the placeholders.
        checks: cells behind it with guards ``if name is not ...:``.
        answer: all Python of the folded answers behind it.
    """

    before: tuple[str, ...]
    cell: str
    names: tuple[str, ...]
    checks: tuple[str, ...]
    answer: str

    def guards(self, name: str) -> list[ast.If]:
        """Statements of the checks that run once a placeholder is replaced."""
        return [found for check in self.checks for found in ast.parse(check).body if _guards(found, name)]

    def needed(self) -> str:
        """Statements in front of the exercise that its cells and its answer use, directly or not."""
        return "\n".join(needed(self.before, "\n".join([self.cell, self.answer, *self.checks])))


def exercises(lesson: Path) -> list[Exercise]:
    """The exercises of a lesson, in order."""
    cells = nbformat.read(lesson, as_version=4).cells
    code = [i for i, cell in enumerate(cells) if cell.cell_type == "code"]
    starts = [i for i in code if placeholders(cells[i].source)]
    found = []
    for start, end in pairwise([*starts, len(cells)]):
        behind = range(start + 1, end)
        folded = [cells[i].source for i in behind if i not in code and "<details>" in cells[i].source]
        found.append(
            Exercise(
                before=tuple(cells[i].source for i in code if i < start),
                cell=cells[start].source,
                names=placeholders(cells[start].source),
                checks=tuple(cells[i].source for i in behind if i in code),
                answer="\n".join(b.code for page in folded for b in blocks(page) if b.language == "python"),
            )
        )
    return found


def placeholders(code: str) -> tuple[str, ...]:
    """Names that a cell sets to ``...``."""
    found = []
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and _is_dots(statement.value):
            found += bound(statement)
    return tuple(found)


def depends(body: list[ast.stmt], name: str) -> bool:
    """Whether a statement of a body asserts something that depends on a name."""
    tainted = {name}
    for statement in body:
        if tainted & used(statement):
            tainted |= bound(statement)
        asserted = (node.test for node in ast.walk(statement) if isinstance(node, ast.Assert))
        if any(tainted & used(test) for test in asserted):
            return True
    return False


def needed(before: Iterable[str], after: str) -> Iterator[str]:
    """Statements of the cells ``before`` that bind or change what ``after`` uses, and what these use in their turn.

    What only shows or asserts something is left out. A change by way of a second name is not seen, and what is
    missing then fails in ``after``.
    """
    cells = [ast.parse(cell).body for cell in before]
    silent = [body[:-1] if body and isinstance(body[-1], ast.Expr) else body for body in cells]
    wanted, kept = used(ast.parse(after)), []
    for statement in reversed(list(chain.from_iterable(silent))):
        if wanted & (bound(statement) | changed(statement)):
            if isinstance(statement, ast.Assign | ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
                wanted -= bound(statement)
            wanted |= used(statement)
            kept.append(ast.unparse(statement))
    return reversed(kept)


def bound(tree: ast.AST) -> set[str]:
    """Names that a statement, or some, bind in their module."""
    table = symtable.symtable(ast.unparse(tree), "<cell>", "exec")
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}


def changed(statement: ast.stmt) -> set[str]:
    """Names whose objects a statement may change: by item, by attribute, or by calling a method for its effect."""
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            node = node.value.func if isinstance(node.value.func, ast.Attribute) else node
        elif not isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
            continue
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        if isinstance(node, ast.Name):
            found.add(node.id)
    return found


def used(tree: ast.AST) -> set[str]:
    """Names of the module that some code reads, in its functions and comprehensions, too."""
    tables, found = [symtable.symtable(ast.unparse(tree), "<cell>", "exec")], set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        top = table.get_type() == "module"
        found |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return found - set(dir(builtins))


def _guards(statement: ast.stmt, name: str) -> TypeGuard[ast.If]:
    """Whether a statement is ``if name is not ...:``, perhaps with more conditions."""
    return isinstance(statement, ast.If) and any(
        isinstance(node, ast.Compare)
        and isinstance(node.left, ast.Name)
        and node.left.id == name
        and isinstance(node.ops[0], ast.IsNot)
        and _is_dots(node.comparators[0])
        for node in ast.walk(statement.test)
    )


def _is_dots(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
