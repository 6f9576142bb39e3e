"""Interventions folded into weights: an ordinary checkpoint that any server runs at no cost for each token.

Claim: a constant added at every token is a bias of what writes to the residual stream there, and the ablation
of a direction from the whole stream is the same model with every matrix that writes to it made orthogonal to
the direction (Arditi et al., arXiv 2406.11717, section 4). Both are exact; `bake` measures that they are.
"""

from cmrm_interp.bake.baking import Baked, acting, bake, whole_stream

__all__ = ["Baked", "acting", "bake", "whole_stream"]
