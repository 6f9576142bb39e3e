"""A recipe as one safetensors file: its settings as JSON, what its fit found as tensors."""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from cmrm_interp.axes import Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError, StoreError
from cmrm_interp.store import load, save

KIND = "recipe"
T = TypeVar("T")


def write_fields(recipe: Any, path: str | os.PathLike[str]) -> None:
    """Write every field of a recipe.

    Args:
        recipe: a dataclass whose fields are JSON's values, tuples, tensors, mappings of tensors, Directions, pictures
            or paths.
        path: the file.

    Raises:
        InputError: a field holds something else.
        StoreError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    told = {}
    for part in fields(recipe):
        told[part.name], own = _packed(getattr(recipe, part.name), f"{type(recipe).__name__}.{part.name}")
        tensors |= {f"{part.name}/{name}": tensor for name, tensor in own.items()}
    save(path, tensors, {"kind": KIND, "recipe": type(recipe).__name__, "fields": json.dumps(told)})


def read_fields(kind: type[T], path: str | os.PathLike[str]) -> T:
    """Make a recipe from what `write_fields` wrote.

    Raises:
        StoreError: the file is missing, damaged, or has fields that the recipe has not.
    """
    tensors, header = load(path, kind=KIND)
    if "fields" not in header:
        raise StoreError(f"{path} was written by an older version: fit the recipe again")
    told = json.loads(header["fields"])
    known = {part.name for part in fields(kind)}  # type: ignore[arg-type]
    strange = sorted(told.keys() - known)
    if strange:
        raise StoreError(f"{path} has {', '.join(strange)}, which {kind.__name__} has not: fit the recipe again")
    return kind(**{name: _unpacked(how, name, tensors) for name, how in told.items()})


def _packed(value: Any, where: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """How a value is told in JSON, and its tensors."""
    if isinstance(value, Directions):
        about = {"hooks": list(value.tensors), "rows": value.rows, "model": value.model, "method": value.method}
        return {"directions": about}, dict(value.tensors)
    if isinstance(value, Tensor):
        return {"tensor": True}, {"": value}
    if isinstance(value, Image.Image | np.ndarray):
        return {"image": True}, {"": torch.from_numpy(np.array(value))}
    if isinstance(value, Mapping) and value and all(isinstance(part, Tensor) for part in value.values()):
        return {"tensors": list(value)}, dict(value)
    if isinstance(value, os.PathLike):
        return {"json": os.fspath(value)}, {}
    try:
        json.dumps(value)
    except TypeError as error:
        raise InputError(f"{where} is a {type(value).__name__}, which cannot be saved ({error})") from error
    if _renamed(value):
        raise InputError(f"{where} has keys that are no texts, which would be read back as texts: use texts")
    return {"tuple" if isinstance(value, tuple) else "json": value}, {}


def _renamed(value: Any) -> bool:
    """Whether JSON would make other keys of a mapping's."""
    if isinstance(value, Mapping):
        return any(not isinstance(key, str) for key in value) or any(map(_renamed, value.values()))
    return isinstance(value, list | tuple) and any(map(_renamed, value))


def _unpacked(how: Mapping[str, Any], name: str, tensors: Mapping[str, Tensor]) -> Any:
    own = {key.partition("/")[2]: value for key, value in tensors.items() if key.partition("/")[0] == name}
    if "directions" in how:
        about = dict(how["directions"])
        return Directions({hook: own[hook] for hook in about.pop("hooks")}, **about)
    if "tensors" in how:
        return {key: own[key] for key in how["tensors"]}
    if "tensor" in how:
        return own[""]
    if "image" in how:
        return own[""].numpy()
    return tuple(how["tuple"]) if "tuple" in how else how["json"]
