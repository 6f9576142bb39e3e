"""Names of the tensor axes that signatures use; the one place where their meaning is written down.

Annotations use jaxtyping, for example ``Float[Tensor, "batch pos d_model"]``:

* ``batch``: rows, one per prompt.
* ``pos``: token positions of a row, padding included; ``image``, ``patch``: images and their patches.
* ``head``, ``d_head``: attention heads and their width; ``kv_head`` where keys and values have fewer.
* ``query``, ``key``: positions that attend and are attended to.
* ``d_model``, ``d_mlp``, ``d_vision``: widths of the residual stream, the MLP and the vision tower.
* ``vocab``: tokens of the vocabulary.
* ``k``: vectors that span a subspace; ``*rows``: nothing (one vector) or ``batch`` (one a row) or ``k``.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Tensor"]
