"""See and change what happens inside a vision-language model, by hook-point name."""

__version__ = "0.1.0"

from cmrm_interp import attacks, finetuning, images, metrics, patching, positions, recipes
from cmrm_interp.activations import Activations
from cmrm_interp.attention import attention_map, attention_to, knockout_sweep
from cmrm_interp.attribution import direct_logit_attribution
from cmrm_interp.bake import bake, whole_stream
from cmrm_interp.choose import Budget, Choice, choose
from cmrm_interp.compare import Comparison, compare
from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.directions import Directions, cosine, random_like
from cmrm_interp.estimators import difference, mean_diff, principal_direction, project, reject
from cmrm_interp.evaluation import Report, evaluate
from cmrm_interp.gap import GapResult, gap
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import (
    Ablate,
    Add,
    AddKeepingNorm,
    AddLinearMap,
    AddOriented,
    ByRow,
    Clamp,
    CosineAbove,
    DotAbove,
    Gate,
    HasImage,
    Hook,
    Intervention,
    KeepNorm,
    Knockout,
    Patch,
    ProjectOut,
    Skip,
    Subtract,
    Units,
)
from cmrm_interp.lab import Lab, lab
from cmrm_interp.lens import LensResult, TunedLens, logit_lens
from cmrm_interp.model import Model, load
from cmrm_interp.notebook import Explorer, Shown, explore, show
from cmrm_interp.positions import at
from cmrm_interp.probes import Probe, ProbeResult, probe, probe_transfer
from cmrm_interp.prompts import Prompt, Turn
from cmrm_interp.steps import Generation
from cmrm_interp.sweeps import SweepResult, ablation_sweep, sweep
from cmrm_interp.workers import Workers

__all__ = [
    "Ablate",
    "Activations",
    "Add",
    "AddKeepingNorm",
    "AddLinearMap",
    "AddOriented",
    "Anchors",
    "Budget",
    "ByRow",
    "Choice",
    "Clamp",
    "Comparison",
    "CosineAbove",
    "Directions",
    "DotAbove",
    "Explorer",
    "GapResult",
    "Gate",
    "Generation",
    "HasImage",
    "Hook",
    "Inputs",
    "Intervention",
    "KeepNorm",
    "Knockout",
    "Lab",
    "LensResult",
    "Model",
    "Patch",
    "Probe",
    "ProbeResult",
    "ProjectOut",
    "Prompt",
    "Report",
    "Shown",
    "Skip",
    "Subtract",
    "SweepResult",
    "TunedLens",
    "Turn",
    "Units",
    "Workers",
    "ablation_sweep",
    "at",
    "attacks",
    "attention_map",
    "attention_to",
    "bake",
    "choose",
    "compare",
    "cosine",
    "difference",
    "direct_logit_attribution",
    "evaluate",
    "explore",
    "finetuning",
    "gap",
    "images",
    "knockout_sweep",
    "lab",
    "load",
    "logit_lens",
    "mean_diff",
    "metrics",
    "patching",
    "positions",
    "principal_direction",
    "probe",
    "probe_transfer",
    "project",
    "random_like",
    "recipes",
    "reject",
    "show",
    "sweep",
    "whole_stream",
]
