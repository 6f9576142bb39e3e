"""A checkpoint folder that `ci.load` loads, with a file that says how it was made."""

import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cmrm_interp.errors import StoreError
from cmrm_interp.families.load import Parts
from cmrm_interp.model import Model
from cmrm_interp.provenance import Provenance

ABOUT = "bake.json"


def check_free(folder: Path, what: str) -> None:
    """Refuse a folder that holds something.

    Args:
        folder: the folder.
        what: of checkpoint it is for, in a word.

    Raises:
        StoreError: it is a file or is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is there already: give a new folder for the {what} checkpoint")


def write(model: Model, folder: Path, source: str, about: Mapping[str, Any]) -> Path:
    """Write a baked model and what was baked, whole or not at all.

    Args:
        model: the baked model.
        folder: where to.
        source: name of the model that it was made from.
        about: what ``bake.json`` says of it.

    Raises:
        StoreError: the folder holds something, or the system refuses.
    """
    check_free(folder, "baked")
    made = asdict(Provenance(weights_hash=model.fingerprint))
    return write_checkpoint(model, folder, source, ABOUT, {"kind": "baked", **about, "made": made})


def write_checkpoint(model: Model | Parts, folder: Path, source: str, name: str, about: Mapping[str, Any]) -> Path:
    """Write a network, its processor or tokenizer, and how it was made, whole or not at all.

    Args:
        model: whose.
        folder: where to; it is not there, or is empty.
        source: folder or name of the model that it was made from.
        name: of the JSON file that says how it was made.
        about: what that file says.

    Raises:
        StoreError: the system refuses.
    """
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        model.hf.save_pretrained(part)
        save_processor(model, source, part)
        (part / name).write_text(json.dumps(about, indent=2) + "\n")
        if folder.exists():
            folder.rmdir()
        part.replace(folder)
    except OSError as error:
        raise StoreError(
            f"{folder} was not written ({error.strerror or error}): free space or choose another place"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def save_processor(model: Model | Parts, source: str, folder: Path) -> None:
    """Write the processor of a model, or its tokenizer, so that the folder is loaded as the model's own was.

    Args:
        model: whose.
        source: folder that it was loaded from, or a name.
        folder: where to.
    """
    processor = model.processor or model.tokenizer
    if processor is None:
        return
    if model.processor is None or getattr(processor, "video_processor", processor) is not None:
        processor.save_pretrained(folder)
        return
    # transformers saves no processor whose video processor is missing (it needs torchvision); a server may want one.
    processor.tokenizer.save_pretrained(folder)
    settings = {name: value for name, value in processor.to_dict().items() if value is not None}
    (folder / "processor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    if processor.chat_template is not None:
        (folder / "chat_template.jinja").write_text(processor.chat_template)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, folder / name)
