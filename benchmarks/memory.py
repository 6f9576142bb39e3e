"""Peak memory of a mean difference over many prompts; ``python -m benchmarks.memory N`` is one process of it."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence

import torch
from PIL import Image

import cmrm_interp as ci
from benchmarks.making import REQUESTS
from benchmarks.timing import peak_memory

STREAM = "blocks.*.hook_resid_post"
WORDS = "a red cake and two cats with the dog in my picture please you are kind".split()


def texts(n: int) -> Iterator[str]:
    """As many prompts, of unequal lengths."""
    for number in range(n):
        yield " ".join([*WORDS[: number % len(WORDS)], REQUESTS[number % len(REQUESTS)]])


def grown(n: int) -> dict[str, float]:
    """MiB that the mean difference of prompts with a blank image and without adds to the peak of this process.

    A short one goes first, so that what every run needs (buffers, code) is there.
    """
    torch.set_num_threads(1)
    model, blank = ci.load("organism"), Image.new("RGB", (32, 32), "white")
    bare = model.prepare(list(texts(n)))
    _difference(model, bare.prompts[:256], blank)
    before = peak_memory(torch.device("cpu"))
    _difference(model, bare.prompts, blank)
    after = peak_memory(torch.device("cpu"))
    return {"prompts": n, "before MiB": before / 2**20, "grown MiB": (after - before) / 2**20}


def measure(counts: tuple[int, ...] = (1_000, 10_000)) -> list[dict[str, float]]:
    """Growth for each number of prompts, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory"]
    runs = [subprocess.run([*command, str(n)], capture_output=True, text=True, check=True) for n in counts]
    return [json.loads(run.stdout.splitlines()[-1]) for run in runs]


def _difference(model: ci.Model, prompts: Sequence[ci.Prompt], blank: Image.Image) -> ci.Directions:
    bare = model.prepare(prompts)
    shown, bare = (model.stream(inputs, STREAM, batch_size=64) for inputs in (bare.with_images(blank), bare))
    return ci.mean_diff(shown, bare)


if __name__ == "__main__":
    print(json.dumps(grown(int(sys.argv[1]))))
