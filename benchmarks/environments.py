"""Other libraries' environments: each made once, kept in the user's cache; TransformerLens's is that of `parity`."""

import os
import subprocess
from pathlib import Path

from benchmarks.comparison import LENS, PYVENE
from parity.environment import REQUIREMENTS, interpreter

FILES = {LENS: REQUIREMENTS, PYVENE: Path(__file__).with_name("requirements-pyvene.txt")}
# Nothing is downloaded, nothing is sent, one thread.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def python_of(library: str) -> Path:
    """Python of a library's environment; built if there is none yet."""
    if library == LENS:
        return interpreter()
    return interpreter(FILES[library], library.lower())


def run_side(library: str, out: Path, folders: list[Path]) -> None:
    """Run a library's side (`benchmarks.sides`) on the cases in some folders.

    Raises:
        CalledProcessError: it failed.
    """
    command = [str(python_of(library)), "-m", "benchmarks.sides", library, str(out), *map(str, folders)]
    subprocess.run(command, check=True, env={**os.environ, **QUIET})
