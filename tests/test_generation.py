"""Generation: rows that end at different times, sampling, and settings."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError
from tests.support import FAMILIES, STREAM, TEXTS, close, fresh, inputs_of, model_of, network, same, vectors


def ending(family):
    """A model, and its tokens without an end: the second token of row 0 ends a generation from now on."""
    model = fresh(family)
    inputs = inputs_of(model)
    plain = model.generate_tokens(inputs, max_new_tokens=7)
    model.hf.generation_config.eos_token_id = int(plain[0, 1])
    return model, inputs, plain


def until(row, end):
    return row[: row.index(end) + 1] if end in row else row


@pytest.mark.parametrize("batch_size", [1, 2, "auto"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_end_at_different_times(family, batch_size):
    model, inputs, plain = ending(family)
    end = model.hf.generation_config.eos_token_id
    calls = []
    for acting in ((), ci.Hook("blocks.1.hook_resid_post", lambda x, _: calls.append(x.shape))):
        got = model.generate_tokens(inputs, acting, 7, batch_size)
        for row, tokens in zip(plain.tolist(), got.tolist(), strict=True):
            wanted = until(row, end)
            assert tokens == wanted + [0] * (got.shape[1] - len(wanted))
    assert calls
    assert len({len(until(row, end)) for row in plain.tolist()}) > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_generation_that_ends_at_once(family):
    model, inputs, plain = ending(family)
    one = inputs.prompts[:1]
    model.hf.generation_config.eos_token_id = int(plain[0, 0])
    acting = ci.Hook(model.hook_points, lambda x, _: x)
    assert model.generate_tokens(model.prepare(one), acting, 7).tolist() == [[int(plain[0, 0])]]


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_batches_agree_under_intervention(family, n):
    model, inputs = model_of(family), inputs_of(model_of(family))
    acting = ci.Subtract(vectors(model, scale=0.4))
    wanted = model.generate_tokens(inputs, acting, n)
    assert wanted.shape == (3, n)
    for batch_size in (1, 2):
        same(model.generate_tokens(inputs, acting, n, batch_size), wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_is_the_new_text_only(family):
    model, inputs = model_of(family), inputs_of(model_of(family))
    tokens = model.generate_tokens(inputs, max_new_tokens=4)
    assert model.generate(inputs, max_new_tokens=4) == model.tokenizer.batch_decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_token_is_the_largest_logit(family):
    model, inputs = model_of(family), inputs_of(model_of(family))
    acting = ci.ProjectOut(vectors(model))
    same(model.generate_tokens(inputs, acting, 1)[:, 0], model.logits(inputs, acting).argmax(-1))


def test_sampling_repeats_with_its_seed_and_leaves_the_callers_generator():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    how = {"max_new_tokens": 8, "do_sample": True, "temperature": 3.0}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, two, other = (model.generate_tokens(inputs, seed=s, **how) for s in (5, 5, 6))
    same(one, two)
    assert not torch.equal(one, other)
    same(torch.get_rng_state(), state)
    hooked = model.generate_tokens(inputs, ci.Hook(STREAM, lambda x, _: x), seed=5, **how)
    same(hooked, one)


@pytest.mark.parametrize("n", [0, -1, True])
def test_a_number_of_new_tokens_is_positive(n):
    model = model_of("llama")
    with pytest.raises(InputError, match=rf"max_new_tokens={n}: give at least 1"):
        model.generate(inputs_of(model), max_new_tokens=n)


def test_a_checkpoints_sampling_settings_do_not_reach_greedy_decoding(recwarn):
    hf, processor = network("llama")
    hf.generation_config.update(do_sample=True, temperature=5.0, top_k=3, top_p=0.5)
    model = ci.load((hf, processor))
    assert model.generate(inputs_of(model), max_new_tokens=4) == model_of("llama").generate(
        inputs_of(model), max_new_tokens=4
    )
    assert not [w for w in recwarn if "temperature" in str(w.message)]
    assert hf.generation_config.temperature == 5.0


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_last_is_the_last_column_of_all(family, side):
    model = model_of(family)
    inputs = inputs_of(model, side)
    every = model.logits(inputs, positions="all")
    close(every[inputs.mask("last")], model.logits(inputs))
    for batch_size in (1, 2):
        close(model.logits(inputs, batch_size=batch_size), model.logits(inputs))
        apart = model.logits(inputs, positions="all", batch_size=batch_size)
        close(apart[inputs.mask("all")], every[inputs.mask("all")])


def test_logits_have_two_positions():
    model = model_of("llama")
    with pytest.raises(KeyError, match=r"logits at 'text': use 'last' or 'all' \(capture 'unembed.hook_out'"):
        model.logits(model.prepare(TEXTS), positions="text")


@pytest.mark.parametrize("family", FAMILIES)
def test_edits_of_the_logits_reach_the_choice(family):
    model, inputs = model_of(family), inputs_of(model_of(family))

    def only_seven(x, name):
        x = torch.full_like(x, -1.0)
        x[..., 7] = 1.0
        return x

    assert (model.generate_tokens(inputs, ci.Hook("unembed.hook_out", only_seven), 3) == 7).all()
    assert (model.logits(inputs, ci.Hook("unembed.hook_out", only_seven)).argmax(-1) == 7).all()
