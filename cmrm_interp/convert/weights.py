"""Weights of a checkpoint folder: what is in which file, read one file at a time."""

import json
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from cmrm_interp.axes import Tensor
from cmrm_interp.errors import ModelError, StoreError

# In the order in which they are looked for.
_NAMES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Weights:
    """Tensors on disk.

    Attributes:
        files: file to the names in it.
        shapes: name to shape.
        dtypes: name to type.
    """

    files: dict[Path, tuple[str, ...]]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors, file by file; a file is closed before the next one is opened."""
        for file in self.files:
            yield from _tensors(file)


def open_weights(folder: Path, allow_pickled: bool) -> Weights:
    """Look into all weight files of a folder; safetensors are preferred to pickled ones.

    Args:
        folder: of the checkpoint.
        allow_pickled: read ``pytorch_model*.bin`` as well, by ``torch.load(weights_only=True)``, which builds
            tensors and refuses to run anything else that a pickle asks for.

    Raises:
        ModelError: there are no weights, only an adapter's or projector's, or only pickled ones.
        StoreError: a file is missing or damaged, or a pickle holds more than tensors.
    """
    files = _weight_files(folder)
    if files[0].suffix == ".bin" and not allow_pickled:
        raise ModelError(
            f"the weights in {folder} are pickled ({files[0].name}), and pickles can run code: pass allow_pickled"
            " (cmrm convert --allow-pickled) to read nothing but tensors from them (torch.load(weights_only=True))"
        )
    names: dict[Path, tuple[str, ...]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, torch.dtype] = {}
    for file in files:
        found = dict(_outlines(file))
        names[file] = tuple(found)
        shapes |= {name: tuple(outline.shape) for name, outline in found.items()}
        dtypes |= {name: outline.dtype for name, outline in found.items()}
    return Weights(names, shapes, dtypes)


def _weight_files(folder: Path) -> list[Path]:
    for name in _NAMES:
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _listed(folder, index)
        if (folder / name).is_file():
            return [folder / name]
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder} holds LoRA weights only: merge them into their base model first")
    if (folder / "mm_projector.bin").is_file():
        raise ModelError(f"{folder} holds a projector only: give the folder of a whole LLaVA")
    raise ModelError(f"no weights in {folder}: there is neither {_NAMES[0]} nor {_NAMES[1]}, nor an index of shards")


def _listed(folder: Path, index: Path) -> list[Path]:
    try:
        listed = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise StoreError(f"{index} is no index of shards ({error}): copy it again") from error
    missing = [name for name in listed if not (folder / name).is_file()]
    if missing or not listed:
        what = f"{len(missing)} of {len(listed)} shards ({', '.join(missing[:3])})" if listed else "every shard"
        raise StoreError(f"{folder} lacks {what}: copy the checkpoint again")
    return [folder / name for name in listed]


def _outlines(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Names with tensors that have shape and type; what lies on disk is not read where that can be helped."""
    if file.suffix == ".bin":
        yield from ((name, tensor.to("meta")) for name, tensor in _unpickled(file).items())
        return
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                part = opened.get_slice(name)
                # An empty slice has the type, and costs nothing.
                dtype = part[:0].dtype if part.get_shape() else opened.get_tensor(name).dtype
                yield name, torch.empty(part.get_shape(), dtype=dtype, device="meta")
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{file} is truncated or corrupt ({_short(error)}): copy it again") from error


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    if file.suffix == ".bin":
        yield from _unpickled(file).items()
        return
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                yield name, opened.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{file} cannot be read any more ({_short(error)})") from error


def _unpickled(file: Path) -> dict[str, Tensor]:
    try:
        # Files from before torch 1.6 are no archives and cannot be mapped into memory.
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise StoreError(f"{file} is damaged, or asks to run code, which is not done: {_short(error)}") from error
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        raise StoreError(f"{file} is truncated or corrupt ({_short(error)}): copy it again") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise StoreError(f"{file} holds something else than named tensors: it is no checkpoint")
    return found


def _short(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:160]
