"""The folder of a run: what its logs were made with, so that it is gone on with by the same run alone."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cmrm_interp.errors import MismatchError, StoreError
from cmrm_interp.store import write_whole

SETTINGS = "evaluation.json"
LOCK = ".running.lock"
VERSION = 1
# Of the software, the machine and the hour: they are in every log, and do not make another evaluation of it.
_MAY_DIFFER = frozenset({"versions", "commit", "device", "created"})


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make a folder the one of an evaluation, or find that it is.

    Args:
        folder: made where it is not there.
        settings: all that decides the answers and verdicts, as JSON.

    Raises:
        MismatchError: it holds an evaluation with other settings, or other logs.
        StoreError: it cannot be written, or its settings cannot be read.
    """
    path = folder / SETTINGS
    _check_place(folder)
    ours = json.loads(json.dumps({"version": VERSION, **settings}, sort_keys=True))
    if not path.exists():
        if folder.is_dir() and any(folder.glob("*.eval")):
            raise MismatchError(
                f"{folder} holds logs of something else (there is no {SETTINGS}): choose another folder"
            )
        write_whole(path, json.dumps(ours, indent=1).encode())
        return
    other = [name for name, _ in zip(_differing(_read(path), ours), range(4), strict=False)]
    if other:
        raise MismatchError(
            f"{folder} holds an evaluation with other settings ({'; '.join(other)}): choose another folder, or the"
            " settings of that one"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the same logs: each would ask everything, and the answers would count twice.

    Raises:
        StoreError: another run is at work in the folder, or it cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(f"another run is at work in {folder}: wait until it ends, or choose another folder") from None
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror}): choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def _check_place(folder: Path) -> None:
    """Logs are looked for in all folders below, so that evaluations inside of one another would be mixed."""
    above = next((one for one in folder.resolve().parents if (one / SETTINGS).exists()), None)
    if above is not None:
        raise MismatchError(f"{folder} lies in {above}, which holds another evaluation: choose a folder beside it")
    below = next((file.parent for file in sorted(folder.rglob("*.eval")) if file.parent != folder), None)
    if below is not None:
        raise MismatchError(f"{below} in {folder} holds logs of something else: choose another folder")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}): choose another folder") from error


def _differing(theirs: Any, ours: Any, name: str = "") -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted((theirs.keys() | ours.keys()) - _MAY_DIFFER):
            yield from _differing(theirs.get(key), ours.get(key), f"{name}.{key}" if name else key)
    elif theirs != ours:
        yield f"{name}: {_short(theirs)} there, {_short(ours)} here"


def _short(value: Any, most: int = 40) -> str:
    words = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return words if len(words) <= most else f"{words[:most]}..."
