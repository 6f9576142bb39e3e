"""Another library's own environment: made once, kept in the user's cache, named by what is in it."""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def interpreter(requirements: Path = REQUIREMENTS, name: str = "parity") -> Path:
    """Python of an environment with exactly what is required; built if there is none yet."""
    folder = _folder(requirements, name)
    python, finished = folder / "bin" / "python", folder / ".finished"
    if not finished.exists():
        print(f"building {folder} ...", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(requirements)], check=True)
        subprocess.run([str(python), "-m", "pip", "check"], check=True)
        finished.touch()
    return python


def _folder(requirements: Path, name: str) -> Path:
    key = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "cmrm_interp" / f"{name}-{key}"
