"""Decoder columns of sparse autoencoders, from the folders that SAELens writes.

As in SAELens 6.54.12 (``SAE.save_model``): ``sae_weights.safetensors`` with ``W_dec`` (``d_sae d_in``, one feature a
row), and ``cfg.json``, which says where the autoencoder was trained: ``metadata.hook_name`` since 6.0,
``hook_name`` before, ``hook_point`` before that; a transcoder writes to ``hook_name_out``.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError, StoreError
from cmrm_interp.interop.files import existing

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
_INSTEAD = "let SAELens 4 or later load it and save_model(folder)"


def read_sae(path: str | os.PathLike[str], features: int | Sequence[int], hook: str | None = None) -> Directions:
    """Read what features of a sparse autoencoder write: rows of its decoder, with their lengths as stored.

    Only the rows asked for are read.

    Args:
        path: folder of the autoencoder, or its ``sae_weights.safetensors`` with ``cfg.json`` beside it.
        features: one number, which gives one vector (``d_model``), or several, which give a subspace (``k d_model``).
        hook: hook point to use instead of the one in ``cfg.json``.

    Raises:
        StoreError: files are missing, damaged, pickled, or not laid out as SAELens does.
        InputError: there is no such feature, or the decoder does not write into a stream of the model.
    """
    folder, weights = _files(existing(path, _INSTEAD))
    wanted = [features] if isinstance(features, int) else list(features)
    config = _config(folder, required=hook is None)
    name = hook or _hook_name(folder, config)
    rows = _rows(weights, wanted)
    one = len(wanted) == 1
    method = f"SAE decoder of {folder.name}, feature{'' if one else 's'} {', '.join(map(str, wanted))}"
    return Directions({name: rows[0] if one else rows}, "one" if one else "subspace", None, method)


def _files(path: Path) -> tuple[Path, Path]:
    folder = path if path.is_dir() else path.parent
    weights = folder / WEIGHTS if path.is_dir() else path
    if not weights.is_file():
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in (".pt", ".pkl", ".bin"))
        also = f"; {pickled[0]} is a pickle, which is never read: {_INSTEAD}" if pickled else ""
        raise StoreError(f"{folder} has no {WEIGHTS}{also or ': give the folder that SAELens saved'}")
    return folder, weights


def _config(folder: Path, required: bool) -> dict[str, Any]:
    file = folder / CONFIG
    if not file.is_file():
        if required:
            raise StoreError(f"{folder} has no {CONFIG}: copy it too, or say hook='blocks.<i>.hook_resid_post'")
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{file} is no JSON ({error}): copy it again") from error
    if not isinstance(config, dict):
        raise StoreError(f"{file} is not a configuration of SAELens: copy it again")
    return _checked({**config, **(config.get("metadata") or {})}, file)


def _checked(config: dict[str, Any], file: Path) -> dict[str, Any]:
    if config.get("reshape_activations") == "hook_z" or config.get("hook_head_index") is not None:
        raise InputError(f"{file}: this autoencoder reads single heads, whose output is no direction of the stream")
    if config.get("normalize_activations") == "covariance_whitening":
        raise InputError(
            f"{file}: this autoencoder's decoder lives in whitened activations: fold the whitening"
            " (SAELens: sae.fold_activation_whitening) and save it again"
        )
    return config


def _hook_name(folder: Path, config: dict[str, Any]) -> str:
    for key in ("hook_name_out", "hook_name", "hook_point"):
        if isinstance(config.get(key), str) and config[key]:
            return config[key]
    raise StoreError(f"{folder / CONFIG} names no hook point: say hook='blocks.<i>.hook_resid_post'")


def _rows(weights: Path, wanted: list[int]) -> Float[Tensor, "k d_model"]:
    if not wanted:
        raise InputError("features is empty: name at least one")
    try:
        with safe_open(weights, framework="pt") as file:
            if "W_dec" not in file.keys():  # noqa: SIM118
                raise StoreError(
                    f"{weights} has no W_dec but {', '.join(sorted(file.keys())[:4])}: it is no SAELens file"
                )
            decoder = file.get_slice("W_dec")
            shape = decoder.get_shape()
            _check_features(wanted, shape, weights)
            rows = torch.cat([decoder[i : i + 1] for i in wanted])
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{weights} is truncated or corrupt ({error}): copy it again") from error
    if not rows.is_floating_point():
        raise StoreError(f"W_dec in {weights} is of type {rows.dtype}: only floating-point decoders are read")
    return rows


def _check_features(wanted: list[int], shape: list[int], weights: Path) -> None:
    if len(shape) != 2:
        raise StoreError(f"W_dec in {weights} has shape {tuple(shape)}: a decoder is features x width")
    for feature in wanted:
        if isinstance(feature, bool) or not 0 <= feature < shape[0]:
            raise InputError(f"no feature {feature!r}: this autoencoder has {shape[0]} (0-{shape[0] - 1})")
