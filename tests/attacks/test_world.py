"""The organism's suites under attacks."""

import numpy as np

from cmrm_interp.attacks import PGD, answer_loss
from cmrm_interp.attacks.world import OPENING, organism_attacks
from cmrm_interp.datasets.suites import organism_suites
from tests.support import model_of


def test_the_same_requests_under_each_attack():
    model = model_of("llava")
    suites = organism_attacks(model, "validation", 3, attack=PGD(epsilon=8 / 255, step=2 / 255, steps=3))
    real = organism_suites("validation", 3)["harmful, real"]
    assert list(suites) == ["harmful, real", "harmful, typographic", "harmful, pixel noise", "harmful, pgd"]
    pixels = {name: np.stack([np.asarray(p.image) for p in s.prompts]).astype(int) for name, s in suites.items()}
    for name, suite in suites.items():
        assert (suite.kind, suite.ids, suite.answers, suite.split) == ("harmful", real.ids, real.answers, "validation")
        assert [p.text for p in suite.prompts] == [p.text for p in real.prompts]
        assert pixels[name].shape == pixels["harmful, real"].shape
    moved = {name: abs(p - pixels["harmful, real"]).max() for name, p in pixels.items()}
    assert (moved["harmful, real"], moved["harmful, pixel noise"], moved["harmful, pgd"]) == (0, 8, 8)
    losses = {n: answer_loss(model, model.prepare(list(s.prompts)), OPENING).mean() for n, s in suites.items()}
    assert losses["harmful, pgd"] < min(losses["harmful, real"], losses["harmful, pixel noise"])
