"""What a reader of the pages has in the folder: checkpoints named as on the hub, pictures, files of requests.

The checkpoints are tiny random models of the same families in folders named as the hub ids, which `ci.load` prefers
to the hub: blocks run as they stand, with their dtype and device map.
"""

from pathlib import Path

from cmrm_interp.datasets import synthetic
from cmrm_interp.families import tiny
from cmrm_interp.families.registry import families
from tests.vlsafe_format import write_vlsafe


def furnish(folder: Path, code: str) -> None:
    """Put into a folder what the blocks of a page take for granted.

    Args:
        folder: an empty folder, in which the blocks will run.
        code: of all blocks; checkpoints are made of those families alone whose hub ids it names.
    """
    for name, scene in zip(("photo.jpg", "other.jpg"), synthetic.scenes(2, seed=3), strict=True):
        scene.image.save(folder / name)
    for name, kind in (("anchors.txt", "harmful"), ("harmless.txt", "benign")):
        texts = dict.fromkeys(request.text for request in synthetic.requests(kind, "train", 24, 0))
        (folder / name).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    write_vlsafe(folder, n=40)
    for family in families():
        for hub_id in family.hub_ids:
            if hub_id in code:
                checkpoint(family.name, folder / hub_id)


def checkpoint(family: str, folder: Path) -> None:
    """A tiny random model of a family as a checkpoint folder."""
    hf, processor = tiny(family)
    hf.save_pretrained(folder)
    processor.save_pretrained(folder)
