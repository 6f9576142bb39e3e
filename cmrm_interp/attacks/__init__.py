"""Attacks on a vision-language model: what defences are tried against.

`PGD` changes pixels along the model's own gradients, `perturbed` changes them by chance, `typographic` writes the
request in the picture. They are for measuring defences on models and data that one may test.
"""

from cmrm_interp.attacks.likelihood import answer_loss
from cmrm_interp.attacks.noise import perturbed
from cmrm_interp.attacks.pgd import PGD, Adversarial
from cmrm_interp.attacks.pixels import PixelSpace, pixel_space
from cmrm_interp.attacks.regions import RegionScores
from cmrm_interp.attacks.typographic import CARRIER, typographic, typographic_suite
from cmrm_interp.attacks.world import organism_attacks

__all__ = [
    "CARRIER",
    "PGD",
    "Adversarial",
    "PixelSpace",
    "RegionScores",
    "answer_loss",
    "organism_attacks",
    "perturbed",
    "pixel_space",
    "typographic",
    "typographic_suite",
]
