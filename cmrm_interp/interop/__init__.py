"""Directions of other libraries: their files and their objects in memory; none of them is imported."""

from cmrm_interp.interop.control_vectors import read_gguf, write_gguf
from cmrm_interp.interop.objects import from_repe, from_steering_vectors, to_steering_vectors
from cmrm_interp.interop.sae import read_sae

__all__ = ["from_repe", "from_steering_vectors", "read_gguf", "read_sae", "to_steering_vectors", "write_gguf"]
