"""SafeDecoding against the equations set by set, every token from scratch."""

from dataclasses import replace

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.recipes import Recipe, SafeDecoding
from cmrm_interp.recipes.safedecoding import leaning
from tests.oracles import decoding as oracle
from tests.oracles import hooks
from tests.support import fresh, inputs_of, model_of, network, twin_of

NEW = 6


def expert_of(family):
    """A network of other weights, with the model's words."""
    return ci.load(network(family, seed=1))


@pytest.mark.parametrize(("alpha", "first", "common"), [(3.0, 2, 5), (0.5, 4, 12)])
@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_every_token_is_the_oracles(family, alpha, first, common):
    model = model_of(family)
    recipe = SafeDecoding(expert_of(family), alpha, first, common).fit(model)
    inputs, never = inputs_of(model), [model.hf.config.image_token_id]
    networks = (twin_of(family), hooks.prepared(network(family, seed=1)[0]))
    said = recipe.generate(model, inputs, max_new_tokens=NEW, suppress_tokens=never)
    for prompt, answer in zip(inputs.prompts, said, strict=True):
        voices = [(hf, model.prepare([prompt]).tensors) for hf in networks]
        ids = oracle.decode(voices, oracle.safe_decoding(alpha, first, common), NEW, never)
        assert model.tokenizer.decode(ids, skip_special_tokens=True) == answer
    assert said != model.generate(inputs, max_new_tokens=NEW, suppress_tokens=never)


def test_without_strength_or_tokens_the_model_answers_as_it_does():
    model = model_of("llava")
    recipe, inputs = SafeDecoding(expert_of("llava")).fit(model), inputs_of(model)
    plain = model.generate(inputs, max_new_tokens=NEW)
    for off in ({"alpha": 0.0}, {"first_tokens": 0}):
        assert replace(recipe, **off).generate(model, inputs, max_new_tokens=NEW) == plain


def test_probabilities_in_numbers():
    model = torch.tensor([[0.5, 0.3, 0.1, 0.06, 0.04]]).log()
    expert = torch.tensor([[0.1, 0.2, 0.6, 0.06, 0.04]]).log()
    # Top 2 of both share token 1 alone, top 3 share 0, 1 and 2: 0.5 - 0.4, 0.3 - 0.1, 0.1 + 0.5.
    found = leaning(model, expert, 1.0, 2).exp()
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.2, 0.6, 0.0, 0.0]]) / 0.9)
    # 0.5 - 0.8 and 0.3 - 0.2 and 0.1 + 1.0: what is below 0 is 0.
    found = leaning(model, expert, 2.0, 2).exp()
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.1, 1.1, 0.0, 0.0]]) / 1.2)
    assert leaning(model, expert, 1.0, 1).exp().tolist() == [[0.0, 1.0, 0.0, 0.0, 0.0]]


def test_where_nothing_is_left_the_experts_probabilities_stand():
    model = torch.tensor([[0.5, 0.49, 0.01]]).log()
    expert = torch.tensor([[0.2, 0.1, 0.7]]).log()
    # The space is token 0, of which 0.5 + 3 (0.2 - 0.5) is below 0.
    assert leaning(model, expert, 3.0, 1).exp().tolist() == [[1.0, 0.0, 0.0]]


def test_draws_repeat_and_do_not_depend_on_batches():
    model = model_of("llava")
    recipe, inputs = SafeDecoding(expert_of("llava"), common=20, alpha=1.0).fit(model), inputs_of(model)
    how = {"max_new_tokens": NEW, "do_sample": True, "temperature": 3.0}
    several = [recipe.generate(model, inputs, seed=1, batch_size=n, **how) for n in (1, 2, "auto")]
    assert several[0] == several[1] == several[2] != recipe.generate(model, inputs, seed=2, **how)


def test_experts_come_from_folders(tmp_path):
    hf, processor = network("llava", seed=1)
    # An expert of one's own folder is found without being named.
    folder = tmp_path / "model"
    for path, parts in ((folder, network("llava")), (folder / "finetuned" / "expert", (hf, processor))):
        parts[0].save_pretrained(path)
        parts[1].save_pretrained(path)
    model = ci.load(str(folder))
    inputs = inputs_of(model)
    named = SafeDecoding(str(folder / "finetuned" / "expert")).fit(model)
    said = named.generate(model, inputs, max_new_tokens=NEW)
    assert said == SafeDecoding().fit(model).generate(model, inputs, max_new_tokens=NEW)
    assert said == SafeDecoding(ci.load((hf, processor))).fit(model).generate(model, inputs, max_new_tokens=NEW)
    named.save(tmp_path / "recipe.safetensors")
    again = Recipe.load(tmp_path / "recipe.safetensors")
    assert again.generate(model, inputs, max_new_tokens=NEW) == said
    with pytest.raises(MismatchError, match=r"the weights of the expert .* are not those that it had at fit"):
        replace(again, weights="others").generate(model, inputs)


def test_adapters_are_put_into_the_model(tmp_path):
    peft = pytest.importorskip("peft")
    hf, processor = network("llava")
    hf.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=r".*language_model.*q_proj", init_lora_weights=False)
    trained = peft.get_peft_model(hf, config)
    trained.save_pretrained(tmp_path / "adapter")
    model = ci.load(str(tmp_path / "model"))
    inputs = inputs_of(model)
    said = SafeDecoding(tmp_path / "adapter").fit(model).generate(model, inputs, max_new_tokens=NEW)
    merged = ci.load((trained.merge_and_unload(), processor))
    assert said == SafeDecoding(merged).fit(model).generate(model, inputs, max_new_tokens=NEW)


def test_errors(tmp_path):
    model = model_of("llava")
    cases = {
        "has no folder finetuned/expert with an expert: train one that refuses, cmrm finetune": SafeDecoding(),
        "there is no folder .*nowhere: train one": SafeDecoding(tmp_path / "nowhere"),
        "the expert is the model itself": SafeDecoding(model),
        "common=1000: the vocabulary of": SafeDecoding(expert_of("llava"), common=1000),
    }
    for words, recipe in cases.items():
        with pytest.raises(InputError, match=words):
            recipe.fit(model)
    with pytest.raises(MismatchError, match=r"is of family 'llama' and .* of 'llava': it is given the same prompt"):
        SafeDecoding(model_of("llama")).fit(model)
    stranger = fresh("llava")
    stranger.tokenizer.add_tokens(["zorp"])
    with pytest.raises(MismatchError, match="have other vocabularies, and their probabilities"):
        SafeDecoding(stranger).fit(model)
    with pytest.raises(InputError, match="an expert in memory cannot be saved: give the folder"):
        SafeDecoding(expert_of("llava")).fit(model).save(tmp_path / "recipe.safetensors")
    with pytest.raises(InputError, match="alpha and first_tokens are 0 or more"):
        SafeDecoding(alpha=-1.0)
