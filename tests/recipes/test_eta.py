"""ETA: when an answer stays, and how sentences are drawn and kept."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cmrm_interp.errors import ImageError, InputError, ModelError
from cmrm_interp.judges import ByText
from cmrm_interp.recipes import ETA, Recipe
from cmrm_interp.recipes.best_of import Sampling, sentence_by_sentence
from cmrm_interp.recipes.scorers import ClipScore, says_yes, scores_of
from tests.oracles import decoding, eta
from tests.support import TEXTS, inputs_of, model_of, picture, twin_of

NEW = 8
QUESTIONS = {"look": "is it not kind ?", "tell": "is it kind ? {text} {answer}", "yes": ("yes",), "no": ("no",)}


def length(prompt, answer):
    return float(len(answer.split()))


def made(**settings):
    model = model_of("llava")
    # The words of a random model have no full stop: its sentences end at their largest number of tokens.
    return model, ETA(**{"n": 3, "sentence": 3, "prefix": "i can", "rewards": length, **settings}).fit(model)


@pytest.mark.parametrize("image", [0.1, 0.5])
@pytest.mark.parametrize("reward", [-0.1, 0.5])
def test_an_answer_is_made_anew_where_image_and_answer_are_unsafe(image, reward):
    model, recipe = made(sees=lambda p, a: image, rewards=lambda p, a: reward, image_threshold=0.3)
    inputs = inputs_of(model)
    first = model.generate(inputs, max_new_tokens=NEW)
    # The prompt in the middle has no image.
    anew = [] if eta.stays(image, reward, 0.3, 0.0) else [0, 2]
    assert recipe.unsafe(model, inputs.prompts, first) == anew
    said = recipe.generate(model, inputs, max_new_tokens=NEW)
    assert [row for row in range(3) if said[row].startswith("i can")] == anew
    assert all(said[row] == first[row] for row in range(3) if row not in anew)


def test_the_models_own_scores_are_log_odds_of_its_yes():
    model, hf = model_of("llava"), twin_of("llava")
    inputs = inputs_of(model)
    recipe = ETA(**QUESTIONS).fit(model)
    yes, no = model.tokenizer.convert_tokens_to_ids(["yes", "no"])

    def _odds(prompt):
        logits = decoding.next_logits(hf, model.prepare([prompt]).tensors, [])
        return float(logits[yes] - logits[no])

    answers = ["sure", "no", "help me"]
    prompts = inputs.prompts
    looks = {n: _odds(replace(prompts[n], text=QUESTIONS["look"])) for n in (0, 2)}
    # As the authors' reward model, it judges answers by text alone.
    tells = {n: -_odds(f"is it kind ? {prompts[n].text} {answers[n]}") for n in (0, 2)}
    for image, reward in ((-100.0, 100.0), (min(looks.values()) + 1e-3, 100.0), (-100.0, min(tells.values()) + 1e-3)):
        found = replace(recipe, image_threshold=image, answer_threshold=reward).unsafe(model, prompts, answers)
        assert found == [n for n in (0, 2) if not eta.stays(looks[n], tells[n], image, reward)]
    scores = says_yes(model, [replace(prompts[0], text=QUESTIONS["look"])], ["yes"], ["no"])
    assert scores == pytest.approx([looks[0]], rel=1e-3, abs=1e-4)


def test_the_best_candidate_of_each_sentence_stays():
    model, _ = made()
    prompt, rounds = inputs_of(model).prompts[0], []

    def _score(drawn):
        rounds.append(drawn)
        rewards = [float(answer.count("a")) for answer in drawn.answers]
        near = [float(sentence.count("o")) for sentence in drawn.sentences]
        kept.append(eta.best(rewards, near, drawn.number, 1.0, drawn.over))
        return [r + (0 if drawn.number == 1 else 1 / drawn.number * c) for r, c in zip(rewards, near, strict=True)]

    kept = []
    said = sentence_by_sentence(model, prompt, "i can", _score, Sampling(4, 20, 2.0, 2, ".", 0), {"max_new_tokens": 5})
    # Sentences of 2, 2 and 1 tokens, each after the ones that were kept.
    assert [one.number for one in rounds] == [1, 2, 3]
    assert said == rounds[-1].answers[kept[-1]]
    before = "i can"
    for one, best in zip(rounds, kept, strict=True):
        assert all(answer.startswith(before) for answer in one.answers)
        assert len(set(one.answers)) > 1
        before = one.answers[best]


def test_the_weight_of_relevance_falls_with_the_sentence():
    model, plain = made(sees=lambda p, a: 1.0, rewards=lambda p, a: -1.0 - a.count("a"), sentence=2)
    near = lambda prompt, sentence: 10.0 * sentence.count("a")  # noqa: E731
    inputs = model.prepare(TEXTS[:1], picture(0))
    how = {"max_new_tokens": 12, "suppress_tokens": [model.hf.config.image_token_id]}
    with_it = replace(plain, relevance=near).generate(model, inputs, **how)[0]
    assert with_it == replace(plain, relevance=near).generate(model, inputs, **how)[0]
    without = replace(plain, relevance=near, weight=0.0).generate(model, inputs, **how)[0]
    assert without == plain.generate(model, inputs, **how)[0]
    # The first sentence is chosen by the reward alone.
    assert with_it.split()[:4] == without.split()[:4]
    assert with_it != without


def test_an_answer_ends_where_a_kept_candidate_does():
    model, recipe = made(sees=lambda p, a: 1.0, rewards=lambda p, a: -1.0)
    inputs = model.prepare(TEXTS[:1], picture(0))
    every = list(range(len(model.tokenizer)))
    said = recipe.generate(model, inputs, max_new_tokens=9, eos_token_id=every)
    assert said == [model.tokenizer.decode(model.tokenizer("i can", add_special_tokens=False).input_ids)]


def test_prompts_draw_alike_whatever_stands_beside_them():
    model, recipe = made(sees=lambda p, a: 1.0, rewards=lambda p, a: -1.0)
    inputs = inputs_of(model, kind="image")
    together = recipe.generate(model, inputs, max_new_tokens=NEW)
    alone = [recipe.generate(model, model.prepare([p]), max_new_tokens=NEW)[0] for p in inputs.prompts]
    assert together == alone
    assert together != replace(recipe, seed=1).generate(model, inputs, max_new_tokens=NEW)
    assert together != recipe.generate(model, inputs, max_new_tokens=NEW, seed=[4, 5, 6])


def test_judges_and_clip_as_scorers():
    prompts = inputs_of(model_of("llava")).prompts
    judge = ByText(lambda answer: "complied" if "sure" in answer else "refused", "sure")
    assert scores_of(judge, prompts[:2], ["sure", "sorry"]) == [-1.0, 1.0]
    seen = {}

    class Made(dict):
        def to(self, device):
            return self

    def _processor(**given):
        seen.update(given)
        return Made(pixels=1)

    def _clip(pixels):
        return SimpleNamespace(logits_per_image=torch.tensor([[16.0]]))

    _clip.device = "cpu"
    assert ClipScore(_clip, _processor, "unsafe contents")(prompts[0], "no") == pytest.approx(0.16)
    assert seen["text"] == ["unsafe contents"]
    assert ClipScore(_clip, _processor)(prompts[0], "a cat") == pytest.approx(0.16)
    assert seen["text"] == ["a cat"]
    with pytest.raises(ImageError, match="has no image for CLIP to look at"):
        ClipScore(_clip, _processor)(prompts[1], "no")


def test_clip_of_transformers_scores_as_by_hand():
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 9,
    }
    sight = {**text, "image_size": 8, "patch_size": 4}
    del sight["vocab_size"]
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=sight, projection_dim=8)).eval()
    ids, pixels = torch.tensor([[1, 2, 8]]), torch.randn(1, 3, 8, 8)

    class Made(dict):
        def to(self, device):
            return self

    score = ClipScore(clip, lambda **given: Made(input_ids=ids, pixel_values=pixels))(
        inputs_of(model_of("llava")).prompts[0], ""
    )
    with torch.no_grad():
        a = clip.text_projection(clip.text_model(ids).pooler_output)
        b = clip.visual_projection(clip.vision_model(pixels).pooler_output)
    by_hand = torch.cosine_similarity(a, b) * clip.logit_scale.exp() / 100
    assert score == pytest.approx(float(by_hand), rel=1e-4)


def test_saving(tmp_path):
    model, recipe = made()
    with pytest.raises(InputError, match="ETA with rewards as objects cannot be saved: make it again"):
        recipe.save(tmp_path / "recipe.safetensors")
    named = ETA(rewards="form", **QUESTIONS).fit(model)
    named.save(tmp_path / "recipe.safetensors")
    assert Recipe.load(tmp_path / "recipe.safetensors").rewards == "form"


def test_errors():
    model, recipe = made(sees=lambda p, a: 1.0, rewards=lambda p, a: -1.0)
    inputs = inputs_of(model)
    with pytest.raises(ModelError, match="ETA is about images"):
        ETA().fit(model_of("llama"))
    with pytest.raises(InputError, match=r"ETA\(n=0, sentence=70\): candidates"):
        ETA(n=0)
    with pytest.raises(InputError, match=r"this text needs the places {text} and {answer}"):
        ETA(tell="{text}")
    with pytest.raises(InputError, match="stop_strings='a': sentences are drawn one by one here"):
        recipe.generate(model, inputs, max_new_tokens=4, stop_strings="a")
    with pytest.raises(InputError, match=r"none of 'Yep' is one token for .* name how it says yes and no"):
        ETA(**{**QUESTIONS, "yes": ("Yep",)}).fit(model).generate(model, inputs, max_new_tokens=2)
    with pytest.raises(InputError, match="gave NaN: nothing can be compared"):
        scores_of(lambda prompt, answer: float("nan"), inputs.prompts[:1], ["a"])
