"""Loading a model: hub id, local path, the shipped organism, or a model that is already there."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from cmrm_interp.errors import ModelError
from cmrm_interp.families.derive import derive
from cmrm_interp.families.maps import FamilyMap
from cmrm_interp.families.processors import load_processor
from cmrm_interp.families.registry import family_of

Source = str | os.PathLike[str] | tuple[Any, Any]
# Makes a model from its auto class, source, processor and the arguments of `from_pretrained`.
Build = Callable[[Any, str, Any, dict[str, Any]], Any]
# What belongs to the whole checkpoint and not to its weights alone.
_SHARED = ("revision", "trust_remote_code", "token", "cache_dir", "local_files_only", "subfolder")


@dataclass(frozen=True)
class Parts:
    """A loaded model.

    Attributes:
        hf: the Hugging Face model.
        processor: its processor; None for a text-only model, or if none was given.
        tokenizer: its tokenizer, or None.
        family: its map.
        name: hub id, path or class name.
        revision: of the hub, or None.
        derived: whether the map was found by conventions, the family not being registered.
    """

    hf: Any
    processor: Any
    tokenizer: Any
    family: FamilyMap
    name: str
    revision: str | None = None
    derived: bool = False


def load_parts(source: Source, build: Build | None = None, **hf_kwargs: Any) -> Parts:
    """Load a model and what belongs to it; remote code is not run unless ``trust_remote_code=True`` is given.

    Args:
        source: hub id, local folder, ``"organism"``, or ``(hf_model, processor)``.
        build: makes the model, in place of `from_pretrained`.
        **hf_kwargs: as `from_pretrained` takes them (``dtype``, ``device_map``, ``attn_implementation``, ...),
            and ``chat_template`` (Jinja) to use instead of the checkpoint's.

    Raises:
        ModelError: it does not exist, is of no known family, or has no safetensors weights.
    """
    template = hf_kwargs.pop("chat_template", None)
    if old := sorted({"load_in_4bit", "load_in_8bit"} & hf_kwargs.keys()):
        raise ModelError(
            f"{old[0]} is now part of a configuration: quantization_config=BitsAndBytesConfig({old[0]}=True)"
        )
    if isinstance(source, tuple):
        parts = _given(*source)
    else:
        parts = _from_pretrained(_resolve(source), build or _weights, **hf_kwargs)
    if isinstance(source, tuple) and hf_kwargs:
        raise ModelError(f"{', '.join(hf_kwargs)} cannot change a model that is already loaded: pass a path or hub id")
    for holder in (parts.processor, parts.tokenizer):
        if template is not None and holder is not None:
            holder.chat_template = template
    return parts


def organism_folder() -> Path:
    """Folder of the shipped model organism: package data, or ``data/organism`` of a source tree.

    Raises:
        ModelError: it is in neither place.
    """
    for folder in _organism_places():
        if (folder / "config.json").exists():
            return folder
    raise ModelError("the model organism was not installed: make it with `cmrm organism train --seed 0 --out DIR`")


def short_name(name: str) -> str:
    """What a model is called where people read it: where the package lies is of no interest to them.

    Args:
        name: of a model, as `Model.name` has it.
    """
    path = Path(name)
    inside = [path.relative_to(folder) for folder in _organism_places() if path.is_relative_to(folder)]
    return str(Path("organism", inside[0])) if inside else name


def _organism_places() -> tuple[Path, Path]:
    package = Path(str(files("cmrm_interp")))
    return package / "_data" / "organism", package.parent / "data" / "organism"


def _resolve(source: str | os.PathLike[str]) -> str:
    name = os.fspath(source)
    if name == "organism" or name.startswith("organism/"):
        return str(organism_folder() / name.removeprefix("organism").lstrip("/"))
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or (os.sep != "/" and os.sep in name)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise ModelError(f"{name!r} is a folder without config.json: give the folder of a Hugging Face checkpoint")
        return str(path)
    if looks_local or path.is_file():
        raise ModelError(f"no model folder {name!r}: give a folder, a hub id (owner/name), or 'organism'")
    return name


def _given(hf: Any, processor: Any) -> Parts:
    name = getattr(hf, "name_or_path", "") or type(hf).__name__
    return _parts(hf, processor, name)


def _parts(hf: Any, processor: Any, name: str, revision: str | None = None) -> Parts:
    known = family_of(hf.config)
    family = known or derive(hf, name)
    if processor is None:
        return Parts(hf, None, None, family, name, revision, known is None)
    tokenizer = getattr(processor, "tokenizer", processor)
    seeing = None if family.vision is None or tokenizer is processor else processor
    return Parts(hf, seeing, tokenizer, family, name, revision, known is None)


def _from_pretrained(source: str, build: Build, **hf_kwargs: Any) -> Parts:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    shared = {name: hf_kwargs[name] for name in _SHARED if name in hf_kwargs}
    try:
        config = AutoConfig.from_pretrained(source, **shared)
    except (OSError, ValueError) as error:
        raise ModelError(_no_config(source, error)) from error
    sees = _sees(config)
    processor = load_processor(source, **shared) if sees else AutoTokenizer.from_pretrained(source, **shared)
    hf = build(AutoModelForImageTextToText if sees else AutoModelForCausalLM, source, processor, hf_kwargs)
    return _parts(hf, processor, source, hf_kwargs.get("revision"))


def _sees(config: Any) -> bool:
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    family = family_of(config)
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING if family is None else family.vision is not None


def _weights(auto: Any, source: str, processor: Any, hf_kwargs: dict[str, Any]) -> Any:
    try:
        hf, info = auto.from_pretrained(source, use_safetensors=True, output_loading_info=True, **hf_kwargs)
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):
            raise ModelError(f"{source!r} is no model that generates text (from images or not)") from error
        raise
    except ImportError as error:
        raise ModelError(f"{source!r} cannot be loaded as asked: {_short(error)}") from error
    except OSError as error:
        raise ModelError(
            f"no safetensors weights at {source!r} (pickled ones are never read): {_short(error)}"
        ) from error
    except SafetensorError as error:
        raise ModelError(f"the weights at {source!r} are damaged: {_short(error)}; copy them again") from error
    # transformers fills what is missing with random numbers and goes on.
    lacking = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if lacking:
        raise ModelError(f"the weights at {source!r} lack {len(lacking)} tensors ({lacking[0]}, ...): copy them again")
    return hf


def _no_config(source: str, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return f"{source!r} needs its own code, which is not run unless you pass trust_remote_code=True"
    if Path(source).is_dir():
        return f"the configuration in {source!r} cannot be read: {_short(error)}"
    return (
        f"no model {source!r}: it is no local folder, and the hub has none of that name or cannot be reached"
        f" ({_short(error)})"
    )


def _short(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:160]
