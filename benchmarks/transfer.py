"""Shifts and states of other training seeds and of an earlier stage, for the notebook on transfer.

``python -m benchmarks.transfer`` makes them, from organisms that are trained when they are not there yet. The files are
small: the notebook applies them to the shipped organism, and needs no other model.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoProcessor

import cmrm_interp as ci
from benchmarks.safety import SHIPPED
from cmrm_interp.datasets.suites import organism_anchors
from cmrm_interp.families.load import organism_folder
from cmrm_interp.organism import train
from cmrm_interp.organism.checkpoints import load_checkpoint
from cmrm_interp.organism.config import ModelConfig
from cmrm_interp.organism.network import build_network
from cmrm_interp.recipes.stand_ins import stand_ins

HOOKS = "blocks.*.hook_resid_post"
ANCHORS = 300
STAGE = "2a"


def main() -> None:
    """Write shift and states of each seed, and the shift of the shipped seed's earlier stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--organisms", type=Path, default=Path("runs/safety/organisms"), help="folders seed-0, ...")
    parser.add_argument("--stages", type=Path, help="organism of the shipped seed with its stages; trained if none")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--out", type=Path, default=organism_folder() / "shifts")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for seed in asked.seeds:
        folder = asked.organisms / f"seed-{seed}"
        if not (folder / "model.safetensors").exists():
            train(folder, seed)
        model = ci.load(str(folder))
        write_shift(model, asked.out / f"seed-{seed}.safetensors")
        write_states(model, asked.out / f"seed-{seed}-states.safetensors")
    stages = asked.stages or asked.organisms / f"seed-{SHIPPED}-with-stages"
    if not (stages / "stages" / f"{STAGE}.safetensors").exists():
        train(stages, SHIPPED)
    write_shift(at_stage(stages), asked.out / f"stage-{STAGE}.safetensors")


def write_shift(model: ci.Model, path: Path) -> None:
    """The shift of a blank image at every block, without the record of its model.

    Args:
        model: an organism.
        path: of the file.
    """
    bare = model.prepare(list(organism_anchors()))
    blank = bare.with_images(stand_ins(bare.prompts, "blank", 0))
    ci.mean_diff(model.stream(blank, HOOKS), model.stream(bare, HOOKS)).transfer().save(path)


def write_states(model: ci.Model, path: Path) -> None:
    """States of the anchors' last tokens as text, in half precision: rows by which two models are laid over each other.

    Args:
        model: an organism.
        path: of the file.
    """
    states = model.capture(model.prepare(list(organism_anchors(ANCHORS))), HOOKS)
    states.map(lambda tensor, _: tensor.half()).save(path)


def at_stage(folder: Path) -> ci.Model:
    """The organism as it was after an earlier stage of its training.

    Args:
        folder: of the organism, with its stages.
    """
    network = build_network(ModelConfig(), SHIPPED)
    load_checkpoint(network, folder / "stages" / f"{STAGE}.safetensors")
    return ci.load((network.eval(), AutoProcessor.from_pretrained(organism_folder())))


if __name__ == "__main__":
    main()
