"""Trains the organism from nothing, stage by stage, resuming after the last stage that is whole on disk."""

import json
import os
import random
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration

from cmrm_interp.errors import InputError
from cmrm_interp.organism.checkpoints import load_checkpoint, save_checkpoint
from cmrm_interp.organism.config import ModelConfig, Stage
from cmrm_interp.organism.folders import BACKBONE, save_backbone, save_organism
from cmrm_interp.organism.gates import GateError, check, failures
from cmrm_interp.organism.loop import Schedule, fit
from cmrm_interp.organism.network import build_network, parameters
from cmrm_interp.organism.objectives import Language, Seeing
from cmrm_interp.organism.recipe import MIXTURES, STAGES
from cmrm_interp.store import write_whole

ALIGNED = "1b"  # after this stage the text backbone is whole and has never met an image


def train(out: str | os.PathLike[str], seed: int = 0, steps_scale: float = 1.0, progress: bool = True) -> Path:
    """Trains an organism and writes it as a Hugging Face folder, with its text backbone in a folder inside.

    A second call with the same arguments goes on after the last finished stage. On one machine the same seed
    gives the same weights, interrupted or not.

    Args:
        out: the folder to write; checkpoints and training curves go to ``out/stages``.
        seed: of the weights and of what is drawn.
        steps_scale: multiplies the steps of every stage; below 1 the gates are not checked.
        progress: whether to show progress bars.

    Returns:
        The folder.

    Raises:
        InputError: if steps_scale is not positive, or the folder holds stages of another seed or scale.
        GateError: if a stage does not reach what the next one builds on.
        StoreError: if a checkpoint in the folder is of another network.
    """
    if not steps_scale > 0:
        raise InputError(f"steps_scale is {steps_scale}; it has to be above 0")
    torch.set_num_threads(1)  # more threads give other sums, and no speed at this size
    folder, config = Path(out), ModelConfig()
    network = build_network(config, seed)
    for stage in STAGES:
        _run(network, stage, folder / "stages", (seed, steps_scale, progress))
        if stage.name == ALIGNED:
            save_backbone(network, config, folder / BACKBONE)
    save_organism(network, config, folder)
    return folder


def _run(network: LlavaForConditionalGeneration, stage: Stage, folder: Path, settings: tuple[int, float, bool]) -> None:
    """Loads a stage that is whole on disk, trains one that is not."""
    seed, scale, progress = settings
    checkpoint, record = folder / f"{stage.name}.safetensors", folder / f"{stage.name}.json"
    if checkpoint.exists():
        _check_same_run(record, seed, scale)
    else:
        curve = _fit(network, stage, seed, scale, progress)
        _record(record, {"seed": seed, "steps_scale": scale, "curve": curve})
        save_checkpoint(network, checkpoint)
    load_checkpoint(network, checkpoint)
    if scale >= 1:
        _gate(network, stage, record)


def _check_same_run(record: Path, seed: int, scale: float) -> None:
    """A folder belongs to one seed and scale; mixing two runs would pass for a third."""
    found = json.loads(record.read_text())
    if (found["seed"], found["steps_scale"]) != (seed, scale):
        raise InputError(
            f"{record.parent} holds stages of seed {found['seed']} at steps_scale {found['steps_scale']}, not"
            f" of seed {seed} at {scale}; choose another folder"
        )


def _fit(
    network: LlavaForConditionalGeneration, stage: Stage, seed: int, scale: float, progress: bool
) -> list[tuple[int, float]]:
    # Each stage has a stream of chance of its own, so that resuming after any stage changes nothing.
    rng = random.Random(f"organism {seed} {stage.name}")
    torch.manual_seed(rng.randrange(2**31))
    weights = parameters(network, stage.trains)
    if stage.name in MIXTURES:
        loss = Language(network, MIXTURES[stage.name], stage, rng)
        extra = []
    else:
        loss = Seeing(network, stage, rng)
        extra = list(loss.heads.parameters())
    for weight in network.parameters():
        weight.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    network.train()
    schedule = Schedule(stage.name, max(1, round(stage.steps * scale)), stage.lr, stage.average)
    curve = fit([*weights, *extra], loss, schedule, progress)
    network.eval()
    return curve


def _record(path: Path, record: dict[str, object]) -> None:
    write_whole(path, (json.dumps(record) + "\n").encode())


def _gate(network: LlavaForConditionalGeneration, stage: Stage, path: Path) -> None:
    """Measures a stage's gates once, writes the figures beside its curve, and stops at a failure."""
    record = json.loads(path.read_text())
    if "gates" not in record:
        record["gates"] = check(stage.name, network)
        _record(path, record)
    failed = failures(stage.name, record["gates"])
    if failed:
        raise GateError(f"stage {stage.name} did not pass: {'; '.join(failed)}; try another seed or more steps")
