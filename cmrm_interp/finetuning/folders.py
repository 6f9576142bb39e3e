"""What fine-tuning writes: a checkpoint folder that `ci.load` loads, with ``finetuning.json``."""

import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cmrm_interp.bake.folder import save_processor
from cmrm_interp.errors import StoreError
from cmrm_interp.families.load import Parts
from cmrm_interp.provenance import Provenance

ABOUT = "finetuning.json"


def check_free(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        StoreError: it is a file or is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is there already: give a new folder for the fine-tuned checkpoint")


def unfinished(folder: Path) -> Path:
    """Where the checkpoints of a training lie until its folder is written."""
    return folder.with_name(f"{folder.name}.unfinished")


def write(parts: Parts, folder: Path, source: str, about: Mapping[str, Any]) -> Path:
    """Write the network, its processor or tokenizer, and how it was trained, whole or not at all.

    Args:
        parts: with the trained network.
        folder: where to.
        source: folder or name of the model that it was made from.
        about: what ``finetuning.json`` says of it.

    Raises:
        StoreError: the system refuses.
    """
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        parts.hf.save_pretrained(part)
        save_processor(parts, source, part)
        made = asdict(Provenance(weights_hash=about["fingerprint"]))
        (part / ABOUT).write_text(json.dumps({"kind": "fine-tuned", **about, "made": made}, indent=2) + "\n")
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
