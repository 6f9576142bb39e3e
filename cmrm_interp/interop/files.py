"""What reading another library's file begins with: it is there, and it is no pickle."""

import os
from pathlib import Path

from cmrm_interp.errors import StoreError

_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".joblib"}


def existing(path: str | os.PathLike[str], instead: str) -> Path:
    """The path of a file or folder that is there and that may be read.

    Args:
        path: the file or folder.
        instead: what to do with a pickle, for the error.

    Raises:
        StoreError: there is nothing, or it is a pickle.
    """
    path = Path(path).expanduser()
    if path.suffix in _PICKLES:
        raise StoreError(f"{path} is or may hold a pickle, which runs code when opened, and is never read: {instead}")
    if not path.exists():
        raise StoreError(f"{path} does not exist")
    return path
