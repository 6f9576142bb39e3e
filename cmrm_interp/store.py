"""Tensors with a header on disk: safetensors only, never pickle, and never half a file.

A file is a safetensors file whose metadata hold a JSON header and a checksum over header and tensors. It is
written under another name in the same folder, synced, and moved to its own name: what has the name is whole.
"""

import contextlib
import json
import os
import secrets
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from cmrm_interp.axes import Tensor
from cmrm_interp.errors import InputError, StoreError

VERSION = 1
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}
_PICKLE_MAGIC = (
    b"PK\x03\x04",
    b"\x80\x02",
    b"\x80\x03",
    b"\x80\x04",
    b"\x80\x05",
)  # torch.save; bare pickles

PathLike = str | os.PathLike[str]


def save(path: PathLike, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors and their header to one file, whole or not at all.

    Args:
        path: the file; its folder is made where there is none, an older file is replaced.
        tensors: by name, of any shape and device.
        header: what JSON can hold; ``kind`` ("directions", "activations", ...) must be among it.

    Raises:
        InputError: if the header has no ``kind`` or holds what JSON cannot.
        StoreError: if it cannot be written; an older file is left as it was.
    """
    # Copies, because safetensors refuses tensors that share memory.
    copies = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
    }
    text = to_json(header)
    metadata = {"cmrm_interp": str(VERSION), "header": text, "crc32": str(_checksum(text, copies))}
    write_whole(path, to_bytes(copies, metadata))


def load(path: PathLike, kind: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what ``save`` wrote.

    Args:
        path: the file.
        kind: what the file must be; None takes any.

    Returns:
        The tensors by name, on the CPU, and the header.

    Raises:
        StoreError: if the file is missing, truncated, corrupt, a pickle, or of another kind.
    """
    metadata, tensors = _open(path, with_tensors=True)
    if metadata.get("crc32") != str(_checksum(metadata["header"], tensors)):
        raise StoreError(f"{path} is corrupt: its checksum does not match its tensors; make it again")
    return tensors, _checked_header(path, metadata, kind)


def read_header(path: PathLike, kind: str | None = None) -> dict[str, Any]:
    """Reads the header alone; the tensors stay on disk and are not checked.

    Args:
        path: the file.
        kind: what the file must be; None takes any.

    Raises:
        StoreError: if the file is missing, truncated, a pickle, or of another kind.
    """
    metadata, _ = _open(path, with_tensors=False)
    return _checked_header(path, metadata, kind)


def write_whole(path: PathLike, data: bytes) -> None:
    """Writes bytes to a file so that its name never stands for half of them.

    Raises:
        StoreError: if the system refuses (disk full, no permission); an older file is left as it was.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path} was not written ({error.strerror or error}): free space or choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _open(path: PathLike, with_tensors: bool) -> tuple[dict[str, str], dict[str, Tensor]]:
    path = Path(path)
    _refuse_what_is_no_safetensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise StoreError(f"{path} is truncated or corrupt ({error}): make it again") from error
    if metadata.get("cmrm_interp") is None or "header" not in metadata:
        raise StoreError(
            f"{path} holds plain tensors without a header of this package: read it with safetensors itself"
        )
    if metadata["cmrm_interp"] != str(VERSION):
        raise StoreError(
            f"{path} has format version {metadata['cmrm_interp']}, this package reads {VERSION}: update it"
        )
    return metadata, tensors


def _refuse_what_is_no_safetensors(path: Path) -> None:
    if not path.is_file():
        raise StoreError(f"{path} does not exist" if not path.exists() else f"{path} is a folder, not a file")
    with path.open("rb") as file:
        start = file.read(9)
    # The length that opens a safetensors file may look like a pickle's first bytes; its JSON header follows at once.
    is_safetensors = start[8:] == b"{"
    if path.suffix in _PICKLES or (start.startswith(_PICKLE_MAGIC) and not is_safetensors):
        raise StoreError(f"{path} is a pickle, which runs code when opened, and is never read: save it as safetensors")


def _checked_header(path: PathLike, metadata: dict[str, str], kind: str | None) -> dict[str, Any]:
    try:
        header = dict(json.loads(metadata["header"]))
    except ValueError as error:
        raise StoreError(f"{path} is corrupt: its header is no JSON; make it again") from error
    if kind is not None and header.get("kind") != kind:
        raise StoreError(f"{path} holds {header.get('kind')!r}, not {kind!r}: pass a file of that kind")
    return header


def _checksum(header: str, tensors: Mapping[str, Tensor]) -> int:
    total = zlib.crc32(header.encode())
    for name in sorted(tensors):
        value = tensors[name]
        total = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), total)
        total = zlib.crc32(value.contiguous().reshape(-1).view(torch.uint8).numpy().data, total)
    return total


def to_json(header: Mapping[str, Any]) -> str:
    """The header as one line of JSON.

    Raises:
        InputError: if it has no ``kind`` or holds what JSON cannot.
    """
    if "kind" not in header:
        raise InputError(f"the header {sorted(header)} has no 'kind': say what the tensors are")
    try:
        return json.dumps(dict(header), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the header {sorted(header)} holds what JSON cannot ({error}): use text, numbers, lists"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Makes a move survive a power cut, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
