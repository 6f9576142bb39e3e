"""The options of a recipe as a table, from its dataclass and its docstrings."""

import ast
import inspect
import re
import textwrap
from dataclasses import MISSING, fields

from cmrm_interp.recipes import Recipe
from cmrm_interp.records import markdown as table

_ATTRIBUTE = re.compile(r"^    (?P<names>\w+(?:, \w+)*): (?P<text>.*(?:\n {5,}.*)*)", re.M)
# A bar ends a cell of a table, but not within code, where a backslash would be shown.
_CODE_OR_BAR = re.compile(r"(?P<code>(?P<tick>`+).+?(?P=tick))|\|")
_HEAD = ("option", "default", "type", "what it does")
_LONG, _DIGITS = 60, 8


def options(kind: type[Recipe]) -> str:
    """A row an option; long texts stand below."""
    told, types = told_of(kind), _types(kind)
    defaults = {name: _default(kind, name) for name in kind.settings()}
    rows = [
        [f"`{name}`{' *' * (name in kind.applied)}", _short(defaults[name]), f"`{types[name]}`", told.get(name, "")]
        for name in kind.settings()
    ]
    if not rows:
        return "It has none."
    parts = [table(_HEAD, [[_escaped(cell) for cell in row] for row in rows])]
    if kind.applied:
        parts.append("\\* Read when the recipe acts, and not by `fit`: another value needs no new fit.")
    long = [name for name, default in defaults.items() if len(default) > _LONG]
    return "\n\n".join([*parts, *(f"Default of `{name}`:\n\n```text\n{getattr(kind, name)}\n```" for name in long)])


def found_by_fit(kind: type[Recipe]) -> str:
    """The fields that `fit` fills in, other than those that every recipe has."""
    told, common = told_of(kind), {part.name for part in fields(Recipe)}
    own = [part.name for part in fields(kind) if part.name not in {*kind.settings(), *common}]
    lines = [f"- `{name}`" + (f": {told[name]}" if told.get(name) else "") for name in own]
    return "\n".join(["What `fit` finds, as fields of the recipe that it returns:\n", *lines]) if lines else ""


def told_of(kind: type[Recipe]) -> dict[str, str]:
    """What the docstrings of a class and of those above it say of each field."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        text = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")[2]
        for match in _ATTRIBUTE.finditer(text):
            found |= dict.fromkeys(match["names"].split(", "), " ".join(match["text"].split()))
    return found


def _types(kind: type[Recipe]) -> dict[str, str]:
    """The type of each field as it is written in the source, which is shorter than the type itself."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if issubclass(one, Recipe):
            body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
            lines = [line for line in ast.walk(body) if isinstance(line, ast.AnnAssign)]
            found |= {ast.unparse(line.target): ast.unparse(line.annotation) for line in lines}
    return found


def _default(kind: type[Recipe], name: str) -> str:
    default = next(part.default for part in fields(kind) if part.name == name)
    return "none: it is given" if default is MISSING else _plain(default)


def _plain(default: object) -> str:
    # 16 / 255 has too many digits to be read.
    return f"{default:.4g}" if isinstance(default, float) and len(repr(default)) > _DIGITS else repr(default)


def _short(default: str) -> str:
    return "see below" if len(default) > _LONG else f"`{default}`"


def _escaped(cell: str) -> str:
    return _CODE_OR_BAR.sub(lambda found: found["code"] or "\\|", cell)
