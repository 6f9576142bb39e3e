"""A folder of tensor files that grows by blocks of rows: an interrupted run goes on where it was."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from cmrm_interp.axes import Tensor
from cmrm_interp.errors import InputError, MismatchError, StoreError
from cmrm_interp.store import VERSION, PathLike, load, save, to_json, write_whole


class Shards:
    """A folder of numbered files that hold blocks of rows, and a manifest that says which are done.

    Opening a folder that has a manifest goes on after its last whole block; ``for tensors in shards`` yields
    block after block, so memory need not hold them all.

    Args:
        folder: made where there is none.
        header: what the rows are (model, hook points, ...), ``kind`` among it; must equal that of an existing
            folder. None opens an existing folder as it is.

    Raises:
        InputError: if a new folder's header has no ``kind`` or holds what JSON cannot.
        MismatchError: if the folder was begun with another header.
        StoreError: if the manifest is missing (with no header), corrupt, or names files that are not there.
    """

    def __init__(self, folder: PathLike, header: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self._manifest_path = self.folder / "manifest.json"
        if self._manifest_path.exists() or header is None:
            self.header, self._blocks = self._resume(header)
        else:
            if "kind" not in header:
                raise InputError(f"the header of {folder} has no 'kind' among {sorted(header)}: say what the rows are")
            self.header, self._blocks = json.loads(to_json(header)), []
            self._write_manifest(self._blocks)

    @property
    def done(self) -> int:
        """Rows that are whole on disk."""
        return sum(block["rows"] for block in self._blocks)

    def append(self, tensors: Mapping[str, Tensor], rows: int) -> None:
        """Adds a block of rows; it counts only once it is whole on disk and in the manifest.

        Args:
            tensors: by name, each with ``rows`` as its first axis.
            rows: how many rows the block has.

        Raises:
            InputError: if a tensor has another number of rows.
            MismatchError: if the names differ from those of the first block.
            StoreError: if it cannot be written; earlier blocks are left as they were.
        """
        for name, value in tensors.items():
            if value.ndim == 0 or len(value) != rows:
                raise InputError(f"{name} has shape {tuple(value.shape)}: its first axis must be the {rows} rows")
        names = sorted(tensors)
        if self._blocks and names != self._blocks[0]["tensors"]:
            raise MismatchError(f"{self.folder} holds {self._blocks[0]['tensors']}, not {names}: append the same names")
        path = self.folder / f"{len(self._blocks):06d}.safetensors"
        save(path, tensors, {"kind": "shard", "index": len(self._blocks), "rows": rows})
        block = {"file": path.name, "rows": rows, "bytes": path.stat().st_size, "tensors": names}
        self._write_manifest([*self._blocks, block])
        self._blocks.append(block)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for index, block in enumerate(self._blocks):
            tensors, header = load(self.folder / block["file"], kind="shard")
            found = (header.get("index"), header.get("rows"), sorted(tensors))
            if found != (index, block["rows"], block["tensors"]):
                path = self.folder / block["file"]
                raise StoreError(f"{path} is not what the manifest says: remove the folder and start again")
            yield tensors

    def read(self) -> dict[str, Tensor]:
        """All rows, concatenated along the first axis.

        Raises:
            StoreError: if there are none, or a file is damaged.
            MismatchError: if blocks differ in another axis than the first.
        """
        if not self._blocks:
            raise StoreError(f"{self.folder} holds no rows yet")
        blocks = list(self)
        for name in blocks[0]:
            shapes = {tuple(block[name].shape[1:]) for block in blocks}
            if len(shapes) > 1:
                raise MismatchError(
                    f"rows of {name} in {self.folder} have shapes {sorted(shapes)}: iterate over the blocks"
                )
        return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}

    def _resume(self, header: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        found, blocks = _read_manifest(self._manifest_path)
        wanted = found if header is None else json.loads(to_json(header))
        for field in sorted(found.keys() | wanted.keys()):
            if found.get(field) != wanted.get(field):
                raise MismatchError(
                    f"{self.folder} was begun with {field}={found.get(field)!r}, not {wanted.get(field)!r}: "
                    "use another folder or remove this one"
                )
        for block in blocks:
            path = self.folder / block["file"]
            if not path.is_file() or path.stat().st_size != block["bytes"]:
                raise StoreError(
                    f"{path} is missing or not of {block['bytes']} bytes: remove the folder and start again"
                )
        for part in self.folder.glob(".*.part"):  # left by a run that was killed
            part.unlink(missing_ok=True)
        return found, blocks

    def _write_manifest(self, blocks: list[dict[str, Any]]) -> None:
        manifest = {"cmrm_interp": VERSION, "header": self.header, "shards": blocks}
        write_whole(self._manifest_path, json.dumps(manifest, indent=1).encode())


def _read_manifest(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if not path.is_file():
        raise StoreError(f"{path} does not exist: there is nothing captured in that folder")
    try:
        manifest = json.loads(path.read_bytes())
        version, header, blocks = manifest["cmrm_interp"], dict(manifest["header"]), list(manifest["shards"])
        whole = all(block.keys() >= {"file", "rows", "bytes", "tensors"} for block in blocks)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is corrupt: remove the folder and start again") from error
    if version != VERSION or not whole:
        raise StoreError(f"{path} has format version {version}, this package reads {VERSION}: start in another folder")
    return header, blocks
