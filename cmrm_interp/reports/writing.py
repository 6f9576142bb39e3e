"""Tables as Markdown, LaTeX and CSV."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from cmrm_interp.provenance import Provenance
from cmrm_interp.records import Record, markdown, to_frame
from cmrm_interp.reports.answered import Answered

if TYPE_CHECKING:
    import pandas as pd

LONG = 100
"""Characters of a list or mapping that a cell of a CSV file holds at most."""
_PROVENANCE = [f.name for f in fields(Provenance)]
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
} | {char: f"\\{char}" for char in "&%$#_{}"}
_INTERVAL = re.compile(r"^(\S+) (\[.*\])(.*)$")


def to_markdown(table: "pd.DataFrame") -> str:
    """A table as Markdown; levels of a header are joined by colons.

    Args:
        table: of texts.
    """
    head = [*map(str, table.index.names), *map(_header, table.columns)]
    rows = [[*_parts(name), *map(str, row)] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    return markdown([one_line(part) for part in head], [[one_line(part) for part in row] for row in rows])


def to_latex(table: "pd.DataFrame", caption: str) -> str:
    """A table as LaTeX, for the package booktabs; intervals are set smaller.

    Args:
        table: of texts, which are escaped.
        caption: said over it.
    """
    shown = table.map(lambda text: _interval(str(text)))
    shown.index = shown.index.map(_escaped)
    shown.columns = shown.columns.map(_escaped)
    shown.index.names = [None] * table.index.nlevels
    shown.columns.names = [None] * table.columns.nlevels
    across = "l" * table.index.nlevels + "r" * table.shape[1]
    return shown.to_latex(
        escape=False, caption=latex(caption), position="t", column_format=across, multicolumn_format="c"
    )


def latex(text: str) -> str:
    """Text with LaTeX's special characters escaped.

    Args:
        text: any, on one line or several, which become one.
    """
    return "".join(_LATEX.get(char, char) for char in " ".join(text.split()))


def to_csv(records: Sequence[Record]) -> str:
    """Records as CSV, a row each, with their provenance: a column a setting and a package's version.

    What is long or lies deeper (the anchors of a recipe, on what its settings were chosen) is told by its length and a
    hash, by which rows can be compared.

    Args:
        records: any.
    """
    import pandas as pd

    origins = [_flat_provenance(record.provenance) for record in records]
    frame = to_frame(records).reset_index(drop=True)
    return pd.concat([frame, pd.DataFrame(origins)], axis=1).to_csv(index=False)


def to_lines(answers: Sequence[Answered]) -> str:
    """Answers as JSON lines; their provenance is in the records.

    Args:
        answers: any.
    """
    return "".join(json.dumps(_plain(answer), ensure_ascii=False, default=str) + "\n" for answer in answers)


def _plain(answer: Answered) -> dict[str, Any]:
    names = [f.name for f in fields(Answered) if f.name not in ("provenance", "judgements")]
    judgements = {judge: asdict(judgement) for judge, judgement in answer.judgements.items()}
    return {name: getattr(answer, name) for name in names} | {"judgements": judgements}


def _flat_provenance(provenance: Provenance) -> dict[str, Any]:
    plain = {name: getattr(provenance, name) for name in _PROVENANCE if name not in ("settings", "versions")}
    versions = {f"version of {name}": version for name, version in provenance.versions.items()}
    return plain | versions | {name: _short(value) for name, value in _two_levels(provenance.settings)}


def _two_levels(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def _short(value: Any) -> Any:
    if not isinstance(value, list | tuple | Mapping):
        return value
    text = json.dumps(value, default=str)
    return text if len(text) <= LONG else f"{len(value)} values, {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _header(name: Any) -> str:
    return ": ".join(part for part in _parts(name) if part)


def _parts(name: Any) -> list[str]:
    return [str(part) for part in name] if isinstance(name, tuple) else [str(name)]


def one_line(text: str) -> str:
    """Text as a cell of a Markdown table: a bar would end the cell, a new line the row.

    Args:
        text: any.
    """
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(name: Any) -> Any:
    return tuple(map(_name, map(str, name))) if isinstance(name, tuple) else _name(str(name))


def _name(text: str) -> str:
    # Behind the end of the row before, a bracket or an asterisk would be read as that command's.
    return f"{{}}{latex(text)}" if text.lstrip().startswith(("[", "*")) else latex(text)


def _interval(text: str) -> str:
    found = _INTERVAL.match(text)
    if not found:
        return latex(text)
    number, interval, rest = (latex(part) for part in found.groups())
    return f"{number} {{\\scriptsize {interval}}}{rest}"
