"""Records: one row of a result, with how sure it is and where it comes from; and JSON lines of them."""

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmrm_interp.errors import InputError, StoreError
from cmrm_interp.intervals import bootstrap_mean, wilson
from cmrm_interp.provenance import Provenance

if TYPE_CHECKING:
    import pandas as pd

PathLike = str | os.PathLike[str]
Scalar = str | int | float | bool | None
_TAIL = ("metric", "value", "low", "high", "n", *(f.name for f in fields(Provenance)))


@dataclass(frozen=True)
class Record:
    """One number: under which condition, of what, how much, how sure, and from where.

    Attributes:
        condition: by name, for example ``{"defence": "CMRM", "image": "blank"}``; named like no attribute.
        metric: what was measured, for example "unsafe".
        value: finite; rates are shares in 0 .. 1.
        n: how many items it was measured on.
        low: lower end of the 95 % interval, None where there is none.
        high: upper end.
        provenance: what it was made with.

    Raises:
        InputError: if a value is not finite, or a condition is named like an attribute.
    """

    condition: Mapping[str, Scalar]
    metric: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise InputError(f"{self.metric}: {name} is {number}: leave out what could not be measured")
        taken = {f.name for f in (*fields(Record), *fields(Provenance))} & self.condition.keys()
        if taken:
            raise InputError(f"a condition may not be named {sorted(taken)}: records have such a field already")


def rate(
    condition: Mapping[str, Scalar], metric: str, successes: int, n: int, provenance: Provenance | None = None
) -> Record:
    """The record of a share: ``successes`` of ``n`` items, with its Wilson interval.

    Raises:
        InputError: if there are no items, or fewer than successes.
    """
    low, high = wilson(successes, n)
    return Record(condition, metric, successes / n, n, low, high, provenance or Provenance())


def mean(
    condition: Mapping[str, Scalar],
    metric: str,
    values: Sequence[float],
    provenance: Provenance | None = None,
    seed: int = 0,
) -> Record:
    """The record of a mean over items, with its bootstrap interval.

    Raises:
        InputError: if there are fewer than two values.
    """
    low, high = bootstrap_mean(values, seed)
    return Record(
        condition, metric, math.fsum(values) / len(values), len(values), low, high, provenance or Provenance()
    )


def append(path: PathLike, records: Iterable[Record]) -> None:
    """Adds records to a file of JSON lines, and returns once they are on the disk.

    A line that an earlier run left half-written at the end is removed first.

    Raises:
        StoreError: if it cannot be written.
    """
    path = Path(path)
    text = "".join(json.dumps(asdict(record)) + "\n" for record in records)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.seek(0)
            file.truncate(_whole_length(file.read()))
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"{path} was not written ({error.strerror}): free space or choose another place") from error


def read(path: PathLike) -> list[Record]:
    """Reads a file of JSON lines; a half-written last line is left out with a warning.

    Raises:
        StoreError: if the file is missing, or another line is no record.
    """
    path = Path(path)
    if not path.is_file():
        raise StoreError(f"{path} does not exist")
    data = path.read_bytes()
    whole = _whole_length(data)
    if whole < len(data):
        warnings.warn(f"{path}: the last line is cut off and left out; its run was interrupted", stacklevel=2)
    lines = data[:whole].splitlines()
    return [_parse(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]


def to_frame(records: Iterable[Record], provenance: bool = False) -> "pd.DataFrame":
    """A table with one row a record: the conditions, then metric, value, low, high, n.

    Args:
        records: their conditions may differ; what one lacks is None.
        provenance: adds the columns of ``Provenance``.
    """
    import pandas as pd

    rows = [
        {**r.condition, "metric": r.metric, "value": r.value, "low": r.low, "high": r.high, "n": r.n}
        | (asdict(r.provenance) if provenance else {})
        for r in records
    ]
    conditions = dict.fromkeys(name for row in rows for name in row if name not in _TAIL)
    tail = [name for name in _TAIL if not rows or name in rows[0]]
    return pd.DataFrame(rows, columns=[*conditions, *tail])


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Args:
        header: names of the columns.
        rows: as many entries each.
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _whole_length(data: bytes) -> int:
    """Bytes up to the end of the last line that was written to its end."""
    return data.rfind(b"\n") + 1


def _parse(line: bytes, path: Path, number: int) -> Record:
    try:
        row: dict[str, Any] = json.loads(line)
        return Record(**{**row, "provenance": Provenance(**row["provenance"])})
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path}, line {number} is no record ({error}): remove the line") from error
