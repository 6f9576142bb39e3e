"""What patching finds on the organism, whose refusals an image takes away."""

from functools import cache

import cmrm_interp as ci
from cmrm_interp.datasets.suites import organism_suites
from cmrm_interp.patching import activation_patching, agreement, attribution_patching, path_patching


@cache
def runs():
    """The model, requests as text (refused) and with a blank image (answered), and what tells refusing."""
    model = ci.load("organism")
    text = model.prepare(organism_suites("validation", n=16)["harmful, text"].prompts)
    blank = text.with_images(ci.images.blank((32, 32)))
    return model, text, blank, ci.metrics.logit_diff(model, "sorry", "sure")


def test_the_last_token_carries_the_refusal():
    model, text, blank, refuses = runs()
    exact = activation_patching(model, text, blank, refuses)
    back = exact.table().pivot(index="layer", columns="span", values="recovered")
    assert back.loc[model.n_layers - 1, "last"] > 0.9, "the last token's state brings the refusal back"
    assert back["user"].abs().max() < 0.15, "the words' states do not"
    assert (refuses(model.logits(text)) > 0).all()
    assert (refuses(model.logits(blank)) < 0).all()


def test_attribution_agrees_with_the_exact_grid():
    model, text, blank, refuses = runs()
    for options, linear in (({}, 0.9), ({"unit": "head", "positions": "last"}, 0.7)):
        grids = [f(model, text, blank, refuses, **options) for f in (activation_patching, attribution_patching)]
        found = agreement(*grids)
        assert found.pearson > linear
        assert found.intervals["pearson"][0] > linear - 0.1
        # It is no more than an estimate.
        assert found.max_difference > 1
    assert found.spearman > 0.9, "but it finds the heads that matter"


def test_an_early_head_says_little_to_the_logits_directly():
    model, text, blank, refuses = runs()
    direct = path_patching(model, text, blank, refuses, "denoise", senders=(0, 3))
    whole = activation_patching(model, text, blank, refuses, unit="head", layers=0)
    assert whole.recovered.values().mean(-1)[0].argmax() == 3
    assert whole.recovered.values().mean(-1)[0, 3] > 0.2, "the head matters"
    assert abs(direct.recovered.values().mean()) < 0.1, "by way of others"
