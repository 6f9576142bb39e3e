"""A checkpoint folder, written beside its place and moved there when it is whole."""

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from cmrm_interp.axes import Tensor
from cmrm_interp.errors import InputError, StoreError


class ShardWriter:
    """Safetensors shards of a bounded size, and the index that transformers reads."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Write into `folder`; a shard is written when it would grow over `max_bytes`."""
        self.folder, self.max_bytes = folder, max_bytes
        self._pending: dict[str, Tensor] = {}
        self._shards: list[tuple[str, ...]] = []
        self._size = self._total = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Take one more tensor."""
        if self._pending and self._size + tensor.nbytes > self.max_bytes:
            self._flush()
        # A copy, because tensors of a mapped file share its memory and safetensors refuses that.
        self._pending[name] = tensor.detach().clone().contiguous()
        self._size += tensor.nbytes
        self._total += tensor.nbytes

    def finish(self) -> None:
        """Write what is left, and the index."""
        self._flush()
        if len(self._shards) == 1:
            self._part(0).rename(self.folder / "model.safetensors")
            return
        place: dict[str, str] = {}
        for i, names in enumerate(self._shards):
            file = f"model-{i + 1:05d}-of-{len(self._shards):05d}.safetensors"
            self._part(i).rename(self.folder / file)
            place |= dict.fromkeys(names, file)
        index = {"metadata": {"total_size": self._total}, "weight_map": dict(sorted(place.items()))}
        (self.folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")

    def _flush(self) -> None:
        save_file(self._pending, self._part(len(self._shards)), metadata={"format": "pt"})
        self._shards.append(tuple(self._pending))
        self._pending, self._size = {}, 0

    def _part(self, number: int) -> Path:
        return self.folder / f"shard-{number}.part"


@contextlib.contextmanager
def whole_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """A folder to write into, which gets its name when the block ends without an error.

    Args:
        out: the name; nothing or an empty folder may be there.
        overwrite: let it replace a model's folder: one with a config.json and no folders in it.

    Raises:
        InputError: there is something else.
        StoreError: the disk is full, or nothing may be written there.
    """
    _check_place(out, overwrite)
    tag = secrets.token_hex(4)
    part, old = (out.with_name(f".{out.name}.{tag}.{what}") for what in ("part", "old"))
    try:
        part.mkdir(parents=True)
        yield part
        if out.exists():
            out.rename(old)
        part.rename(out)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{out} was not written ({error}): free space or choose another place") from error
    finally:
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _check_place(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: name a folder that is not there yet")
    there = sorted(out.iterdir()) if out.exists() else []
    if there and not overwrite:
        raise InputError(f"{out} is not empty: name another folder, or pass overwrite (cmrm convert --overwrite)")
    if there and (not (out / "config.json").is_file() or any(path.is_dir() for path in there)):
        raise InputError(f"{out} is no folder of a model, and is not overwritten: remove it yourself, or name another")
