"""What is trained is what is loaded: ids and pixels of training equal those of the saved processor."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from cmrm_interp.datasets.synthetic import (
    KINDS,
    REFUSAL,
    knowledge_questions,
    requests,
    scenes,
    visual_questions,
)
from cmrm_interp.organism.batches import encode_prompts, encode_rows, pad_rows
from cmrm_interp.organism.config import IMAGE_TOKENS, ModelConfig
from cmrm_interp.organism.examples import Example
from cmrm_interp.organism.tokens import build_processor, vocabulary


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    build_processor(ModelConfig()).save_pretrained(folder)
    return AutoProcessor.from_pretrained(folder)


def chat(processor, text, image=False, system=None):
    content = [{"type": "image"}] * image + [{"type": "text", "text": text}]
    head = [{"role": "system", "content": system}] if system else []
    messages = [*head, {"role": "user", "content": content}]
    return processor.apply_chat_template(messages, add_generation_prompt=True)


def test_text_prompts_get_the_ids_of_training(processor):
    texts = [r.text for kind in KINDS for r in requests(kind, "test", 30)]
    texts += [q.text for q in knowledge_questions("test", 30)]
    got = processor(text=[chat(processor, t) for t in texts], padding=True, return_tensors="pt")
    wanted = encode_prompts(texts, [None] * len(texts))
    assert torch.equal(got["input_ids"], wanted["input_ids"])
    assert torch.equal(got["attention_mask"], wanted["attention_mask"])


def test_image_prompts_get_the_ids_and_pixels_of_training(processor):
    asked = visual_questions(20)
    texts, images = [q.text for q in asked], [q.image for q in asked]
    prompts = [chat(processor, t, image=True) for t in texts]
    got = processor(text=prompts, images=images, padding=True, return_tensors="pt")
    wanted = encode_prompts(texts, images)
    assert torch.equal(got["input_ids"], wanted["input_ids"])
    torch.testing.assert_close(got["pixel_values"], wanted["pixel_values"], atol=1e-6, rtol=1e-6)


def test_an_image_takes_sixteen_tokens_and_nothing_else_changes(processor):
    image = scenes(1)[0].image
    plain = processor(text=[chat(processor, "is it?")], return_tensors="pt")["input_ids"][0].tolist()
    prompt = [chat(processor, "is it?", image=True)]
    full = processor(text=prompt, images=[image], return_tensors="pt")["input_ids"][0].tolist()
    kept = [i for i in full if i != vocabulary()["<image>"]]
    assert kept == plain
    assert len(full) == len(plain) + IMAGE_TOKENS


def test_content_may_be_a_string(processor):
    messages = [{"role": "user", "content": "what is a pot?"}]
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == chat(processor, "what is a pot?")


def test_a_conversation_in_the_template(processor):
    messages = [
        {"role": "system", "content": "help me."},
        {"role": "user", "content": "is it red?"},
        {"role": "assistant", "content": "yes."},
        {"role": "user", "content": [{"type": "text", "text": "is it?"}, {"type": "image"}]},
    ]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    wanted = "<s> help me. USER: is it red? ASSISTANT: yes. </s> USER: <image> is it? ASSISTANT:"
    assert text == wanted


@pytest.mark.parametrize("text", ["How do I make a red?", "how do i make a red ?", "HOW DO I MAKE A RED?"])
def test_spelling_of_a_prompt_does_not_matter(processor, text):
    tokens = processor.tokenizer.convert_ids_to_tokens(processor.tokenizer(text)["input_ids"])
    assert tokens == ["how", "do", "i", "make", "a", "red", "?"]


def test_unknown_words_are_one_token(processor):
    ids = processor.tokenizer("what is quantum?")["input_ids"]
    assert processor.tokenizer.convert_ids_to_tokens(ids) == ["what", "is", "<unk>", "?"]


def test_answers_round_trip(processor):
    tokenizer = processor.tokenizer
    for text in [REFUSAL] + [r.answer for kind in KINDS for r in requests(kind, "test", 20)]:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_pictures_of_other_sizes_are_scaled(processor):
    image = Image.fromarray(np.full((80, 120, 3), 128, dtype=np.uint8))
    got = processor(text=[chat(processor, "is it?", image=True)], images=[image], return_tensors="pt")
    assert got["pixel_values"].shape == (1, 3, 32, 32)


def test_only_answers_weigh_one():
    image = scenes(1)[0].image
    rows = encode_rows([Example("is it?", "yes.", image), Example("is it?", "no.")], prompt_weight=0.1)
    batch = pad_rows(rows)
    assert batch.weights[0].tolist() == pytest.approx([0] * 18 + [0.1] * 4 + [1] * 3)
    assert batch.weights[1].tolist() == pytest.approx([0] * 16 + [0] * 2 + [0.1] * 4 + [1] * 3)
    assert batch.inputs["attention_mask"].sum(1).tolist() == [25, 9]
