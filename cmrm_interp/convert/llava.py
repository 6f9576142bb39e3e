"""The conversion itself."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.convert.layout import expected, llava_config, read_config, renamed
from cmrm_interp.convert.processing import IMAGE, load_tokenizer, processor
from cmrm_interp.convert.tower import Tower, find_tower, tower_name
from cmrm_interp.convert.weights import Weights, open_weights
from cmrm_interp.convert.writing import ShardWriter, whole_folder
from cmrm_interp.errors import InputError, ModelError

PathLike = str | os.PathLike[str]
# Rows of the vocabulary are rounded up to a multiple of this, as Hugging Face's script does.
PAD_SHAPE = 64
_EMBED, _HEAD = "language_model.model.embed_tokens.weight", "language_model.lm_head.weight"
_FIRST, _SECOND = "multi_modal_projector.linear_1", "multi_modal_projector.linear_2"


def convert(
    source: PathLike,
    out: PathLike,
    vision_tower: PathLike | None = None,
    allow_pickled: bool = False,
    overwrite: bool = False,
    max_shard_bytes: int = 5 * 10**9,
) -> Path:
    """Convert an original LLaVA (1.0, 1.5) or ShareGPT4V to one that `cmrm_interp.load` reads; returns its folder.

    `cmrm_interp.convert` says what stays as it is and what is new.

    Args:
        source: folder, or name on the hub (its files are then downloaded).
        out: folder to write; nothing is at its name before everything is written.
        vision_tower: CLIP in Hugging Face's format (folder or name on the hub), where the checkpoint neither holds
            its tower nor points to a folder with it.
        allow_pickled: read ``pytorch_model*.bin``, in which most originals come, by
            ``torch.load(weights_only=True)``, which builds tensors and runs nothing else that a pickle asks for.
        overwrite: replace the folder of another model.
        max_shard_bytes: largest size of a written file, near which memory stays whatever the model's size.

    Raises:
        ModelError: the checkpoint is of another layout, incomplete, pickled, or has no tower.
        StoreError: a file is damaged or missing, or the result cannot be written.
        InputError: there is something at `out`.
    """
    folder, out = _folder(source, allow_pickled), Path(out).expanduser().absolute()
    if folder.resolve() == out.resolve():
        raise InputError(f"{out} is the source: name another folder")
    config = read_config(folder)
    weights = open_weights(folder, allow_pickled)
    given = None if vision_tower is None else _folder(vision_tower, allow_pickled)
    tower = find_tower(config, folder, weights, given, allow_pickled)
    parts = _parts(folder, config, weights, tower)
    with whole_folder(out, overwrite) as part:
        writer = ShardWriter(part, max_shard_bytes)
        for name, tensor in _converted(weights, tower, parts[0]):
            writer.add(name, tensor)
        writer.finish()
        for other in parts:
            other.save_pretrained(part)
    return out


def _folder(source: PathLike, allow_pickled: bool) -> Path:
    """A folder as it is; a name on the hub, downloaded."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    name = os.fspath(source)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(f"no folder {name!r}: give the folder of a checkpoint, or its name on the hub (owner/name)")
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.model", "*.safetensors", *(["pytorch_model*.bin"] if allow_pickled else [])]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise ModelError(
            f"no folder {name!r} here, and the hub has none of it or cannot be reached ({reason})"
        ) from error


def _parts(folder: Path, config: dict[str, Any], weights: Weights, tower: Tower) -> tuple[Any, Any, Any]:
    """Configuration, settings of generation and processor of the result, after its tensors are held against them."""
    tokenizer = load_tokenizer(folder)
    whole = llava_config(config, tower.config, **_tokens(tokenizer, weights, folder))
    whole.dtype = weights.dtypes["model.embed_tokens.weight"]
    _check(expected(whole), _shapes(weights, tower, whole), folder)
    places = [place for place in (tower.folder, folder) if place is not None]
    return whole, _generation_config(folder, whole), processor(config, whole, tokenizer, places)


def _tokens(tokenizer: Any, weights: Weights, folder: Path) -> dict[str, int]:
    if "model.embed_tokens.weight" not in weights.shapes:
        raise ModelError(f"{folder} has no model.embed_tokens.weight: it is no whole checkpoint in the original layout")
    rows = max(weights.shapes["model.embed_tokens.weight"][0], len(tokenizer))
    return {
        "vocab_size": -(-rows // PAD_SHAPE) * PAD_SHAPE,
        "image_token_id": tokenizer.convert_tokens_to_ids(IMAGE),
        "pad_token_id": tokenizer.pad_token_id,
    }


def _shapes(weights: Weights, tower: Tower, whole: Any) -> dict[str, tuple[int, ...]]:
    """Shapes that the converted tensors will have, by their new names."""
    found = {renamed(name): shape for name, shape in weights.shapes.items()}
    if tower.weights is not None:
        found |= {tower_name(name): shape for name, shape in tower.weights.shapes.items()}
    for name in (_EMBED, _HEAD):
        if name in found:
            found[name] = (whole.text_config.vocab_size, *found[name][1:])
    if whole.projector_hidden_act == "linear" and f"{_FIRST}.weight" in found:
        width = found[f"{_FIRST}.weight"][0]
        found |= {f"{_SECOND}.weight": (width, width), f"{_SECOND}.bias": (width,)}
    if whole.tie_word_embeddings:
        found.pop(_HEAD, None)
    return {name: shape for name, shape in found.items() if name is not None}


def _check(wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], folder: Path) -> None:
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing:
        raise ModelError(
            f"{folder} lacks {len(missing)} tensors of the model that its config.json describes"
            f" ({', '.join(missing[:3])}): copy it again"
        )
    if extra:
        raise ModelError(
            f"{folder} has {len(extra)} tensors that a Hugging Face LLaVA has no place for ({', '.join(extra[:3])}):"
            " it is of another layout"
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ModelError(f"{name} in {folder} has shape {found[name]}, and config.json asks for {shape}")


def _converted(weights: Weights, tower: Tower, whole: Any) -> Iterator[tuple[str, Tensor]]:
    rows = whole.text_config.vocab_size
    for old, tensor in weights:
        name = renamed(old)
        if name is None or (name == _HEAD and whole.tie_word_embeddings):
            continue
        yield name, _grown(tensor, rows) if name in (_EMBED, _HEAD) else tensor
        if whole.projector_hidden_act == "linear" and name == f"{_FIRST}.bias":
            yield f"{_SECOND}.weight", torch.eye(len(tensor), dtype=tensor.dtype)
            yield f"{_SECOND}.bias", torch.zeros_like(tensor)
    for old, tensor in tower.weights or ():
        name = tower_name(old)
        if name is not None:
            yield name, tensor.to(whole.dtype)


def _grown(matrix: Float[Tensor, "old d_model"], rows: int) -> Float[Tensor, "vocab d_model"]:
    """The matrix with the mean of its rows below it, up to so many rows."""
    mean = matrix.mean(dim=0, keepdim=True, dtype=torch.float32).to(matrix.dtype)
    return torch.cat([matrix, mean.expand(rows - len(matrix), -1)])


def _generation_config(folder: Path, whole: Any) -> Any:
    from transformers import GenerationConfig

    file = folder / "generation_config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise ModelError(f"{file} is no JSON ({error}): copy it again") from error
    text = whole.text_config
    ids = {"bos_token_id": text.bos_token_id, "eos_token_id": text.eos_token_id}
    dropped = ("_from_model_config", "transformers_version", "pad_token_id")
    settings = {**ids, **{name: value for name, value in found.items() if name not in dropped}}
    if not settings.get("do_sample"):
        # The releases give a temperature to a greedy search, which transformers refuses to save.
        settings = {name: value for name, value in settings.items() if name not in ("temperature", "top_p", "top_k")}
    try:
        made = GenerationConfig(**settings, pad_token_id=whole.pad_token_id)
        made.validate(strict=True)
    except (ValueError, TypeError) as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise ModelError(f"{file} holds what transformers refuses ({reason}): mend or remove it") from error
    return made
