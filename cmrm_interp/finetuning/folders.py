"""What fine-tuning writes: a checkpoint folder that `ci.load` loads, with ``finetuning.json``."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cmrm_interp.bake.folder import write_checkpoint
from cmrm_interp.families.load import Parts
from cmrm_interp.provenance import Provenance

ABOUT = "finetuning.json"


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
    made = asdict(Provenance(weights_hash=about["fingerprint"]))
    return write_checkpoint(parts, folder, source, ABOUT, {"kind": "fine-tuned", **about, "made": made})
