"""What `import cmrm_interp` adds to importing torch, transformers and nnsight, in fresh processes."""

import json
import statistics
import subprocess
import sys

SCRIPT = """
import json, sys, time
import torch, transformers, nnsight
start, cpu = time.perf_counter(), time.process_time()
import cmrm_interp
took = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
print(json.dumps({**took, "modules": sorted(sys.modules)}))
"""
# They come in when they are first used.
LATER = ("pandas", "sklearn", "scipy.stats", "statsmodels", "matplotlib")


def once() -> dict:
    """Seconds, and names of all modules that are there then."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def too_early(modules: list[str]) -> list[str]:
    """Those of the modules that should not be there yet."""
    return [name for name in LATER if name in modules]


def measure(repeats: int = 7) -> dict:
    """Median, least and most seconds, the processor's least, and what came too early."""
    runs = [once() for _ in range(repeats)]
    seconds = [run["seconds"] for run in runs]
    return {
        "median": statistics.median(seconds),
        "least": min(seconds),
        "most": max(seconds),
        "cpu": min(run["cpu"] for run in runs),
        "repeats": repeats,
        "too early": too_early(runs[0]["modules"]),
    }
