"""Metrics against closed forms, numpy and torch; and what is refused."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp import metrics
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.metrics import Needs, Seen
from cmrm_interp.metrics.base import named
from cmrm_interp.positions import Tokens
from tests.support import inputs_of, model_of, unchecked

LOGITS = torch.randn(5, 52, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture(scope="module")
def model():
    return model_of("llava")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_logit_difference_of_two_tokens_is_a_difference_of_columns(model):
    metric = metrics.logit_diff(model, "yes", "no")
    yes, no = (model.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    np.testing.assert_allclose(metric(LOGITS), LOGITS[:, yes] - LOGITS[:, no], rtol=1e-6)
    assert metric == metrics.logit_diff(model, yes, [no])


def test_logit_difference_of_sets_is_that_of_their_probabilities(model):
    p = softmax(LOGITS.double().numpy())
    got = metrics.logit_diff(model, [3, 4, 5], [6, 7])(LOGITS.double())
    np.testing.assert_allclose(got, np.log(p[:, 3:6].sum(1)) - np.log(p[:, 6:8].sum(1)), rtol=1e-10)


def test_probability_is_that_of_softmax(model):
    p = softmax(LOGITS.double().numpy())
    np.testing.assert_allclose(metrics.probability(model, 7)(LOGITS.double()), p[:, 7], rtol=1e-10)
    np.testing.assert_allclose(metrics.probability(model, [7, 9, 9])(LOGITS.double()), p[:, 7] + p[:, 9], rtol=1e-10)


def test_refusal_score_is_log_odds_and_stays_finite_where_probabilities_round_to_one(model):
    p = softmax(LOGITS.double().numpy())[:, [4, 8]].sum(1)
    metric = metrics.refusal_score(model, [4, 8])
    np.testing.assert_allclose(metric(LOGITS.double()), np.log(p) - np.log1p(-p), rtol=1e-9)
    sure = torch.zeros(1, 52)
    sure[0, 4] = 200.0
    np.testing.assert_allclose(metric(sure), 200 - math.log(50), rtol=1e-6)


def test_the_default_refusal_tokens_are_the_openings_that_are_one_token():
    organism = ci.load("organism")
    words = [organism.tokenizer.decode([i]) for i in metrics.refusal_score(organism).ids]
    assert sorted(words) == ["i", "sorry"]
    with pytest.raises(InputError, match=r"none of 'I', .* is one token here: name what refusals begin with"):
        metrics.refusal_score(SimpleNamespace(tokenizer=None))


def test_kl_is_torchs_own():
    clean, edited = LOGITS, LOGITS.roll(1, 0)
    got = metrics.kl_to_clean().measure(Seen(edited, clean=clean))
    wanted = torch.nn.functional.kl_div(
        edited.log_softmax(-1), clean.log_softmax(-1), log_target=True, reduction="none"
    )
    torch.testing.assert_close(got, wanted.sum(-1))
    assert metrics.kl_to_clean().measure(Seen(clean, clean=clean)).abs().max() == 0


def test_kl_counts_nothing_for_tokens_that_the_clean_model_rules_out():
    clean, edited = LOGITS.clone(), LOGITS.clone()
    clean[:, 3] = -torch.inf
    got = metrics.kl_to_clean().measure(Seen(edited, clean=clean))
    # Only the normaliser differs: KL is -log of the mass that the edited model gives to the others.
    mass = 1 - LOGITS.softmax(-1)[:, 3]
    torch.testing.assert_close(got, -mass.log(), rtol=1e-3, atol=1e-5)


def test_half_precision_is_widened_before_anything_is_summed(model):
    seen = Seen(LOGITS.to(torch.bfloat16), clean=LOGITS)
    assert seen.last.dtype == torch.float32
    assert metrics.refusal_score(model, [4]).measure(seen).dtype == torch.float32


def test_perplexity_by_hand(model):
    inputs = inputs_of(model)
    batch = inputs.batch(slice(0, 3))
    logits = model.logits(inputs, positions="all")
    got = metrics.perplexity("text").measure(Seen(logits, tokens=batch.tokens))
    ids, text = inputs.tensors["input_ids"].numpy(), inputs.mask("text").numpy()
    real = inputs.tensors["attention_mask"].bool().numpy()
    logp = np.log(softmax(logits.double().numpy()))
    for row in range(3):
        told = [-logp[row, t - 1, ids[row, t]] for t in range(1, ids.shape[1]) if text[row, t] and real[row, t - 1]]
        np.testing.assert_allclose(got[row], np.exp(np.mean(told)), rtol=1e-4)


def test_perplexity_of_a_given_answer_is_that_of_an_earlier_turn():
    organism = ci.load("organism")
    turns = [ci.Turn("user", "how do i bake bread?"), ci.Turn("assistant", "sure, first cut the wood.")]
    inputs = organism.prepare([ci.Prompt("thanks", history=turns), ci.Prompt("and then?", history=turns)])
    batch, logits = inputs.batch(slice(0, 2)), organism.logits(inputs, positions="all")
    got = metrics.perplexity("assistant").measure(Seen(logits, tokens=batch.tokens))
    ids, said = inputs.tensors["input_ids"], inputs.mask("assistant")
    assert organism.tokenizer.decode(ids[0][said[0]]).startswith("sure")
    for row in range(2):
        places = said[row].nonzero()[:, 0]
        loss = torch.nn.functional.cross_entropy(logits[row, places - 1].float(), ids[row, places])
        torch.testing.assert_close(got[row], loss.exp(), rtol=1e-4, atol=1e-4)


def test_perplexity_where_nothing_is_predicted_is_refused():
    real = torch.ones(2, 3, dtype=torch.bool)
    source = SimpleNamespace(ids=torch.zeros(2, 3, dtype=torch.long))
    with unchecked():
        tokens = Tokens(real, ~real, source=source, first=4)
        with pytest.raises(InputError, match="prompt 4 has no token at 'first' that an earlier one predicts"):
            metrics.perplexity("first").measure(Seen(torch.zeros(2, 3, 9), tokens=tokens))
        with pytest.raises(InputError, match="needs the prompts' tokens and logits of all positions"):
            metrics.perplexity().measure(Seen(torch.zeros(2, 9), tokens=tokens))


def test_unsafe_rate_judges_the_first_tokens_of_answers():
    said = {2: ["a b", "c d"], 3: ["a b x", "c d e"]}
    metric = metrics.unsafe_rate(lambda text: "complied" if text.endswith("x") else "refused", max_new_tokens=3)
    assert metric.needs == Needs(new_tokens=3)
    assert metric.share
    assert metric.measure(Seen(answer=said.__getitem__)).tolist() == [1.0, 0.0]
    assert metrics.unsafe_rate(lambda text: "refused", 2, "refused").name == "refusal_rate"
    assert metrics.unsafe_rate(lambda text: "neither", 2, "neither").measure(Seen(answer=said.__getitem__)).sum() == 2
    with pytest.raises(InputError, match="max_new_tokens=0: give a positive number"):
        metrics.unsafe_rate(str, 0)
    with pytest.raises(InputError, match="judges answers, and none were generated"):
        metric.measure(Seen())


def test_probe_score_is_what_the_probe_says_of_the_activation():
    x, v = torch.randn(4, 8), torch.randn(8)
    metric = metrics.probe_score(lambda acts: (acts @ v).numpy(), "blocks.1.hook_resid_post")
    assert metric.needs.hooks == ("blocks.1.hook_resid_post",)
    torch.testing.assert_close(metric.measure(Seen(activations={"blocks.1.hook_resid_post": x})), x @ v)


def test_strings_that_are_not_one_token_are_refused(model):
    with pytest.raises(InputError, match=r"'yes no' is 2 tokens \('yes', 'no'\) in this vocabulary: give a string"):
        metrics.probability(model, "yes no")
    with pytest.raises(InputError, match="'' is no token in this vocabulary"):
        metrics.probability(model, "")
    with pytest.raises(InputError, match="'quux' is not in this vocabulary"):
        metrics.probability(model, "quux")
    with pytest.raises(InputError, match="no token 5000: ids of this vocabulary are 0 to "):
        metrics.probability(model, 5000)
    with pytest.raises(InputError, match="no token -1"):
        metrics.probability(model, -1)
    with pytest.raises(InputError, match="no tokens: give at least one"):
        metrics.probability(model, [])
    with pytest.raises(InputError, match="'yes' is on both sides of logit_diff"):
        metrics.logit_diff(model, ["yes", "no"], "yes")
    bare = SimpleNamespace(tokenizer=None, hf=model.hf)
    with pytest.raises(ModelError, match="loaded without a tokenizer: give ids"):
        metrics.probability(bare, "yes")
    assert metrics.probability(bare, 3).ids == (3,)
    with pytest.raises(InputError, match="3 is on both sides"):
        metrics.logit_diff(bare, 3, [3, 4])


def test_metrics_are_named():
    def first(logits):
        return logits[:, 0]

    kl = metrics.kl_to_clean()
    assert list(named(first)) == ["first"]
    assert list(named([first, kl])) == ["first", "kl_to_clean"]
    assert list(named({"a": first, "b": kl})) == ["a", "b"]
    assert list(named(lambda logits: logits[:, 0])) == ["metric"]
    torch.testing.assert_close(named(first)["first"].measure(Seen(LOGITS)), LOGITS[:, 0])
    with pytest.raises(InputError, match="two metrics are called 'kl_to_clean': give a dict"):
        named([kl, kl])
    for empty in ([], {}):
        with pytest.raises(InputError, match="no metric: give a function from logits"):
            named(empty)
    with unchecked():
        with pytest.raises(InputError, match="metric is a str: give a function"):
            named("kl")
        with pytest.raises(InputError, match="a metric is a int: give a function"):
            named([3])


def test_a_metric_that_sees_nothing_says_what_it_needs():
    with pytest.raises(InputError, match="compares with the clean model: measure it in a sweep"):
        metrics.kl_to_clean().measure(Seen(LOGITS))
    with pytest.raises(InputError, match="asked for no logits"):
        _ = Seen().last
