"""A rehearsal at full size: CMRM on a model of a real checkpoint's shape with random weights.

``python -m benchmarks.rehearsal --shape llava-1.5-7b`` builds the shape, loads it into the package, fits CMRM,
captures and generates, and prints how long each took beside the plain Hugging Face call. Every row includes
turning prompts and pictures into tensors, as a user's call does. Nothing is downloaded.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

import cmrm_interp as ci
from benchmarks.shapes import SHAPES, WORDS
from benchmarks.timing import Task, Timing, free_memory, measure, timed
from benchmarks.weights import build, layers_that_fit, parameters
from cmrm_interp.provenance import Provenance
from cmrm_interp.selfcheck import failures_of

STREAM = "blocks.*.hook_resid_post"
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Row names, in the order of the table.
BUILD, LOAD, CHECK = "build, random weights", "load and wrap", "self-check"
ENCODE = "encode prompts and images"
HF_IMAGE, HF_TEXT, HF_GENERATE = "hf forward, image", "hf forward, text alone", "hf.generate"
LOGITS, CAPTURE, FIT = "logits", "capture every layer, last token", "CMRM fit, dataset level"
GENERATE, DATASET, SAMPLE, NAIVE = (
    "generate",
    "generate, CMRM dataset level",
    "generate, CMRM sample level",
    "generate, CMRM sample level, no prefix cache",
)


@dataclass(frozen=True)
class Settings:
    """What is run.

    Attributes:
        shape: name of the shape.
        layers: decoder blocks; None for as many as fit.
        device: ``"cpu"`` or ``"cuda"``.
        dtype: ``"bf16"`` or ``"fp32"``.
        prompts: rows of the batch, and anchors of the fit.
        new_tokens: tokens that each row generates.
        warmup, repeats: calls of each kind that are not counted, and that are.
        seed: of weights and pictures.
    """

    shape: str = "llava-1.5-7b"
    layers: int | None = None
    device: str = "cpu"
    dtype: str = "bf16"
    prompts: int = 2
    new_tokens: int = 8
    warmup: int = 1
    repeats: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found.

    Attributes:
        settings: what was run.
        table: one row a call.
        checks: agreements between the package and the plain calls.
        provenance: versions, commit, time.
    """

    settings: Settings
    table: pd.DataFrame
    checks: dict[str, float | bool]
    provenance: Provenance

    def to_json(self) -> str:
        """All of it, as JSON."""
        parts = {"settings": asdict(self.settings), "rows": self.table.reset_index().to_dict("records")}
        return json.dumps({**parts, "checks": self.checks, "provenance": asdict(self.provenance)}, indent=2)


@dataclass(frozen=True)
class Stage:
    """A model and what is run on it: the package's view, and the plain one."""

    model: ci.Model
    texts: list[str]
    pictures: list[Image.Image]
    settings: Settings

    @property
    def inputs(self) -> ci.Inputs:
        """The prompts with their pictures; encoded anew by each call."""
        return self.model.prepare(self.texts, self.pictures)

    def encode(self, with_images: bool = True) -> dict[str, torch.Tensor]:
        """What the processor makes of the prompts, on the model's device."""
        inputs = self.inputs if with_images else self.inputs.without_images()
        hf = self.model.hf
        tensors = self.model.processor(
            text=[self.model.encoder.text(prompt) for prompt in inputs.prompts],
            images=self.pictures if with_images else None,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        known = {"input_ids", "attention_mask", "pixel_values", "image_grid_thw", "mm_token_type_ids"}
        return {
            name: tensor.to(hf.device, hf.dtype) if tensor.is_floating_point() else tensor.to(hf.device)
            for name, tensor in tensors.items()
            if name in known
        }

    @torch.no_grad()
    def hf_forward(self, with_images: bool = True) -> torch.Tensor:
        """Logits of the next token, by Hugging Face alone."""
        tensors = self.encode(with_images)
        return self.model.hf(**tensors, use_cache=False, logits_to_keep=1).logits[:, -1].cpu()

    @torch.no_grad()
    def hf_generate(self) -> torch.Tensor:
        """New tokens, by Hugging Face alone."""
        tensors = self.encode()
        pad = self.model.hf.generation_config.pad_token_id
        how = {"max_new_tokens": self.settings.new_tokens, "do_sample": False, "pad_token_id": pad}
        return self.model.hf.generate(**tensors, **how)[:, tensors["input_ids"].shape[1] :].cpu()

    def generate(self, interventions: Sequence[ci.Intervention] = ()) -> torch.Tensor:
        """New tokens, by the package."""
        return self.model.generate_tokens(self.inputs, interventions, self.settings.new_tokens)

    def answer(self, recipe: ci.recipes.Recipe) -> torch.Tensor:
        """New tokens under a recipe."""
        return self.generate(recipe.interventions(self.model, self.inputs))

    def naive_shift(self) -> ci.Directions:
        """The sample level's shift, with every prompt run as a whole."""
        bare = self.inputs.without_images()
        shown = bare.with_images([ci.images.meaningless("blank", picture) for picture in self.pictures])
        return ci.difference(self.model.capture(shown, STREAM), self.model.capture(bare, STREAM))


def tasks_of(stage: Stage, fitted: ci.recipes.CMRM) -> list[Task]:
    """The calls that are timed, package and plain ones side by side."""
    model, settings = stage.model, stage.settings
    sample = ci.recipes.CMRM("sample").fit(model)
    real = {images: int(stage.encode(images)["attention_mask"].sum()) for images in (True, False)}
    new, image = settings.prompts * settings.new_tokens, (HF_IMAGE,)
    anchors = [ci.Prompt(text, picture) for text, picture in zip(stage.texts, stage.pictures, strict=True)]
    plain = (HF_GENERATE,)
    return [
        Task(ENCODE, stage.encode),
        Task(HF_IMAGE, stage.hf_forward, tokens=real[True]),
        Task(HF_TEXT, lambda: stage.hf_forward(with_images=False), tokens=real[False]),
        Task(LOGITS, lambda: model.logits(stage.inputs), image, real[True]),
        Task(CAPTURE, lambda: model.capture(stage.inputs, STREAM), image, real[True]),
        Task(FIT, lambda: ci.recipes.CMRM().fit(model, anchors), (HF_IMAGE, HF_TEXT), real[True] + real[False]),
        Task(HF_GENERATE, stage.hf_generate, tokens=new),
        Task(GENERATE, stage.generate, plain, new),
        Task(DATASET, lambda: stage.answer(fitted), plain, new),
        Task(SAMPLE, lambda: stage.answer(sample), plain, new),
        Task(NAIVE, lambda: stage.generate([ci.Subtract(stage.naive_shift())]), plain, new),
    ]


def rehearse(settings: Settings, parts: tuple[Any, Any] | None = None) -> Rehearsal:
    """Build, load, fit, capture, generate; all timed.

    Args:
        settings: what to run; with `layers` None, as many as fit into the free memory are taken.
        parts: ``(hf_model, processor)`` to use in place of the shape's.
    """
    device, shape = torch.device(settings.device), SHAPES.get(settings.shape)
    if parts is None:
        if shape is None:
            raise ValueError(f"no shape {settings.shape!r}: there are {', '.join(SHAPES)}")
        settings = replace(settings, layers=_layers(settings, device))
        dtype = DTYPES[settings.dtype]
        made = timed(lambda: (build(shape, settings.layers, device, dtype, settings.seed), shape.processor()), device)
    else:
        made = timed(lambda: parts, device)
    loaded = timed(lambda: _load(made[2]), device)
    proved = timed(lambda: failures_of(loaded[2].network, loaded[2].encoder), device)
    if proved[2]:
        raise RuntimeError("the self-check failed: " + "; ".join(proved[2]))
    size = shape.picture if shape else (32, 32)
    stage = Stage(loaded[2], *_prompts(settings, size), settings)
    fitted = ci.recipes.CMRM().fit(stage.model, stage.texts)
    tasks = tasks_of(stage, fitted)
    done: dict[str, Any] = {BUILD: made, LOAD: loaded, CHECK: proved}
    once = {name: Timing(found[0], peak=found[1]) for name, found in done.items()}
    timings = once | measure(tasks, max(1, settings.warmup), settings.repeats, device)
    checks = _checks(stage, timings)
    about = Provenance(model=settings.shape, weights_hash=stage.model.fingerprint, seed=settings.seed)
    return Rehearsal(settings, table_of([*(Task(name, str) for name in done), *tasks], timings), checks, about)


def table_of(tasks: Sequence[Task], timings: dict[str, Timing]) -> pd.DataFrame:
    """One row a task: seconds, ratio to the plain call, both also in processor time, tokens a second, peak memory."""
    rows = []
    for task in tasks:
        timing = timings[task.name]
        plain = sum(timings[name].median for name in task.baseline)
        plain_cpu = sum(timings[name].cpu or 0.0 for name in task.baseline)
        rows.append(
            {
                "call": task.name,
                "first s": timing.first,
                "median s": timing.median,
                "least s": timing.best,
                "ratio": timing.median / plain if task.baseline else None,
                "cpu s": timing.cpu,
                "cpu ratio": timing.cpu / plain_cpu if timing.cpu and plain_cpu else None,
                "of": " + ".join(task.baseline),
                "tokens/s": task.tokens / timing.median if task.tokens else None,
                "peak GiB": timing.peak / 2**30,
            }
        )
    # Object columns keep None as it is, which JSON has and NaN has not.
    return pd.DataFrame(rows, dtype=object).set_index("call")


def show(found: Rehearsal) -> str:
    """Table and checks as text."""
    shown = found.table.drop(columns="of").astype(float)
    table = shown.to_string(na_rep="", float_format=lambda x: f"{x:.3f}", index_names=False)
    checks = "\n".join(f"{name}: {value}" for name, value in found.checks.items())
    return f"{table}\n\n{checks}"


def _layers(settings: Settings, device: torch.device) -> int:
    shape, dtype = SHAPES[settings.shape], DTYPES[settings.dtype]
    rest, block, full = parameters(shape)
    free = free_memory(device)
    layers = min(settings.layers, full) if settings.layers else layers_that_fit(shape, dtype, free)
    weights = (rest + layers * block) * dtype.itemsize
    chosen = "as asked" if settings.layers else "as many as fit; --layers changes it"
    print(
        f"{shape.name} ({shape.hub_id}) in {settings.dtype} on {device}: {layers} of {full} decoder layers ({chosen}),"
        f" {weights / 2**30:.1f} GiB of weights, {free / 2**30:.1f} GiB free",
        flush=True,
    )
    return layers


def _load(parts: tuple[Any, Any]) -> ci.Model:
    model = ci.load(parts, check=False)
    # Directions and recipes know their model by it; it is worked out once.
    _ = model.fingerprint
    return model


def _prompts(settings: Settings, size: tuple[int, int]) -> tuple[list[str], list[Image.Image]]:
    draw = np.random.default_rng(settings.seed)
    texts = [" ".join(draw.permutation(WORDS)[: 12 + row % 4]) for row in range(settings.prompts)]
    pixels = [draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8) for _ in texts]
    return texts, [Image.fromarray(picture) for picture in pixels]


def _checks(stage: Stage, timings: dict[str, Timing]) -> dict[str, float | bool]:
    plain, ours = timings[HF_GENERATE].result, timings[GENERATE].result
    sample: Any = ci.recipes.CMRM("sample").fit(stage.model).interventions(stage.model, stage.inputs)[0]
    fast, slow = sample.directions, stage.naive_shift()
    gap = max(float((fast[name] - slow[name]).norm() / slow[name].norm()) for name in slow)
    return {
        "generate gives hf.generate's tokens": bool(torch.equal(plain, ours)),
        "logits give the plain forward's bits": bool(torch.equal(timings[HF_IMAGE].result, timings[LOGITS].result)),
        "CMRM changes tokens": not torch.equal(timings[DATASET].result, ours),
        "sample-level shift, prefix cache against none, relative difference": gap,
    }


def _settings(arguments: Sequence[str] | None) -> tuple[Settings, Path | None]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shape", default="llava-1.5-7b", choices=list(SHAPES))
    parser.add_argument("--layers", type=int, help="decoder layers (default: as many as fit into the free memory)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    parser.add_argument("--prompts", type=int, help="rows of the batch (default: 2 on cpu, 8 on cuda)")
    parser.add_argument("--new-tokens", type=int, help="tokens generated (default: 8 on cpu, 64 on cuda)")
    parser.add_argument("--warmup", type=int, help="calls before counting (default: 1 on cpu, 3 on cuda)")
    parser.add_argument("--repeats", type=int, help="calls counted (default: 3 on cpu, 20 on cuda)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write everything there as JSON")
    given = vars(parser.parse_args(arguments))
    for name in ("layers", "prompts", "new_tokens", "repeats"):
        if given[name] is not None and given[name] < 1:
            parser.error(f"--{name.replace('_', '-')} {given[name]}: give at least 1")
    out = given.pop("out")
    usual: dict[str, Any] = {}
    if given["device"] == "cuda":
        usual = {"prompts": 8, "new_tokens": 64, "warmup": 3, "repeats": 20}
    return Settings(**usual | {name: value for name, value in given.items() if value is not None}), out


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    settings, out = _settings(arguments)
    found = rehearse(settings)
    print(show(found))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(found.to_json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
