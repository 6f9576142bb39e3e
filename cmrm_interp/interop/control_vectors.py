"""GGUF control vectors: the format that repeng writes and that llama.cpp and EasySteer read.

As in repeng 0.4.0 (``ControlVector.export_gguf``), with gguf 0.19: ``general.architecture`` is ``controlvector``,
``controlvector.model_hint`` names the architecture (``llama``, ``mistral``), ``controlvector.layer_count`` is the
number of vectors, and each vector is a float32 tensor ``direction.{i}``. In all three programs `i` is the block,
counted from zero, to whose output the vector is added: our ``blocks.{i}.hook_resid_post``. llama.cpp has no
``direction.0``.
"""

import os
import re
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from cmrm_interp.axes import Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError, StoreError
from cmrm_interp.interop.files import existing
from cmrm_interp.store import write_whole

ARCHITECTURE = "controlvector"
_HINT = f"{ARCHITECTURE}.model_hint"
_TEXTS = ("general.architecture", _HINT, "cmrm_interp.model", "cmrm_interp.method")
STREAM = "blocks.{layer}.hook_resid_post"
_NAME = re.compile(r"blocks\.(\d+)\.hook_resid_post")
# What gguf's reader raises on bytes that are not what it expects.
_DAMAGE = (ValueError, IndexError, KeyError, OverflowError)


def read_gguf(path: str | os.PathLike[str], hooks: str = STREAM) -> Directions:
    """Read a control vector.

    Args:
        path: the ``.gguf`` file.
        hooks: hook point of layer ``{layer}``; as the programs use the vectors unless another one is given.

    Returns:
        One vector of width ``d_model`` for each layer in the file, float32 or float16 as they are stored. Those of
        other programs say nothing about the model but its architecture, which is kept in ``method``.

    Raises:
        StoreError: the file is missing, damaged, a pickle, no control vector, quantised, or without vectors.
        InputError: `hooks` has no ``{layer}``, or a vector is not finite.
    """
    if "{layer}" not in hooks:
        raise InputError(f"hooks={hooks!r} has no '{{layer}}': for example {STREAM!r}")
    path = existing(path, "write the control vector as .gguf (repeng: vector.export_gguf(path))")
    reader, texts = _open(path)
    found: dict[int, Tensor] = {}
    for tensor in reader.tensors:
        if tensor.name.startswith("direction."):
            found[_layer(path, tensor.name)] = _vector(path, tensor)
    if not found:
        raise StoreError(f"{path} holds no vector: a control vector has tensors direction.1, direction.2, ...")
    if len({tensor.shape for tensor in found.values()}) > 1:
        widths = sorted({len(tensor) for tensor in found.values()})
        raise StoreError(f"the vectors in {path} have different widths ({', '.join(map(str, widths))}): write it again")
    method = texts["cmrm_interp.method"] or f"GGUF control vector ({texts[_HINT] or 'no model_hint'})"
    tensors = {hooks.format(layer=layer): found[layer] for layer in sorted(found)}
    return Directions(tensors, "one", texts["cmrm_interp.model"] or None, method)


def write_gguf(directions: Directions, path: str | os.PathLike[str], model_hint: str) -> None:
    """Write directions of the residual stream as a control vector, whole or not at all.

    Args:
        directions: one vector a layer at ``blocks.{i}.hook_resid_post``. They are written as float32, which is
            exact unless they are float64; their model and method are kept for `read_gguf`.
        path: the ``.gguf`` file; an older one is replaced.
        model_hint: the model's architecture as llama.cpp and transformers name it, for example ``"llama"``.

    Raises:
        InputError: a direction is at another hook point or is more than one vector, or there is no hint.
        StoreError: the gguf package is not installed, or the file cannot be written.
    """
    if not model_hint:
        raise InputError("model_hint is empty: give the architecture, for example 'llama'; readers ask for it")
    gguf = _gguf()
    vectors = {_block(name): _row(name, tensor) for name, tensor in directions.items()}
    if 0 in vectors:
        warnings.warn(f"{path}: llama.cpp refuses a file with a vector at layer 0; leave it out for that", stacklevel=2)
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "vectors.gguf"
        writer = gguf.GGUFWriter(part, ARCHITECTURE)
        writer.add_string(_HINT, model_hint)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vectors))
        writer.add_string("cmrm_interp.model", directions.model or "")
        writer.add_string("cmrm_interp.method", directions.method)
        for layer in sorted(vectors):
            writer.add_tensor(f"direction.{layer}", vectors[layer].numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        write_whole(path, part.read_bytes())


def _gguf() -> ModuleType:
    try:
        import gguf
    except ImportError as error:
        raise StoreError(
            "GGUF files need the gguf package: pip install 'cmrm-interp[interop]', or pip install gguf"
        ) from error
    return gguf


def _open(path: Path) -> tuple[Any, dict[str, str]]:
    try:
        reader = _strict(_gguf())(path)
        texts = {key: _text(reader, key) for key in _TEXTS}
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror or error})") from error
    except _DAMAGE as error:
        raise StoreError(f"{path} is no GGUF file, or it is damaged ({_short(error)}): copy it again") from error
    kind = texts["general.architecture"]
    if kind != ARCHITECTURE:
        raise StoreError(f"{path} holds a GGUF {kind!r}, not a {ARCHITECTURE!r}: pass a control vector")
    return reader, texts


def _strict(gguf: ModuleType) -> Any:
    """The reader of gguf, which by itself goes on past the end of a file: with a damaged length, nearly for ever."""

    class Strict(gguf.GGUFReader):
        def _get(self, offset: int, dtype: Any, count: Any = 1, *args: Any, **kwargs: Any) -> Any:
            found = super()._get(offset, dtype, count, *args, **kwargs)
            if len(found) < count:
                raise ValueError("it ends early")
            return found

    return Strict


def _text(reader: Any, key: str) -> str:
    field = reader.get_field(key)
    return "" if field is None else str(field.contents())


def _layer(path: Path, name: str) -> int:
    number = name.removeprefix("direction.")
    if not (number.isascii() and number.isdigit()):
        raise StoreError(f"{path} has a tensor {name!r}: a control vector's are direction.<layer>; write it again")
    return int(number)


def _vector(path: Path, tensor: Any) -> Tensor:
    if tensor.tensor_type.name not in ("F32", "F16"):
        kind = tensor.tensor_type.name
        raise StoreError(f"{tensor.name} in {path} is of type {kind}, and only F32 and F16 are read: write it as F32")
    if tensor.data.ndim != 1:
        raise StoreError(
            f"{tensor.name} in {path} has {tensor.data.ndim} axes: a control vector has one vector a layer"
        )
    # A copy, in the byte order of this machine, because the file is only mapped into memory.
    return torch.from_numpy(tensor.data.astype(tensor.data.dtype.newbyteorder("=")))


def _block(name: str) -> int:
    found = _NAME.fullmatch(name)
    if found is None:
        raise InputError(
            f"a control vector is added to the output of a block, and {name!r} is none: only blocks.<i>.hook_resid_post"
            " can be written (blocks.<i>.hook_resid_pre is blocks.<i-1>.hook_resid_post); use .save(path) for others"
        )
    return int(found[1])


def _row(name: str, tensor: Tensor) -> Tensor:
    if tensor.ndim != 1:
        raise InputError(
            f"the direction at {name!r} has shape {tuple(tensor.shape)}: a control vector has one vector a layer;"
            " choose a row, for example directions.map(lambda t, name: t[0])"
        )
    return tensor.detach().cpu().float().contiguous()


def _short(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120] or type(error).__name__
