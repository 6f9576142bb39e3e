"""Principal components of all conditions together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cmrm_interp.axes import Float


@dataclass(frozen=True)
class Projection:
    """States of one hook point on the principal axes of all conditions together.

    Attributes:
        coordinates: condition to coordinates, ``n k``.
        explained: share of the variance on each axis.
    """

    coordinates: Mapping[str, Float[np.ndarray, "n k"]]
    explained: Float[np.ndarray, " k"]


def project_jointly(states: Mapping[str, Float[np.ndarray, "n d"]], k: int = 3, seed: int = 0) -> Projection:
    """Coordinates on the first principal axes of all states, about their common mean (as the paper's figure).

    Args:
        states: by condition.
        k: axes, at most as many as there are dimensions.
        seed: of the randomised solver that large matrices get.
    """
    from sklearn.decomposition import PCA

    together = np.concatenate(list(states.values()))
    fitted = PCA(min(k, *together.shape), random_state=seed).fit(together)
    coordinates = {name: fitted.transform(rows) for name, rows in states.items()}
    return Projection(coordinates, fitted.explained_variance_ratio_)
