"""Prompts with an answer behind them, beside Hugging Face's own generation, which holds the prompt in a cache."""

import pytest
import torch

from cmrm_interp.encoding.continued import continued
from tests.support import inputs_of, model_of, twin_of


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "paligemma", "paligemma2", "gemma3", "mllama", "llama"])
def test_next_logits_are_those_of_generation(family):
    model, twin = model_of(family), twin_of(family)
    tensors = inputs_of(model, "left", "image").tensors
    width = tensors["input_ids"].shape[1]
    steps = twin.generate(
        **tensors,
        max_new_tokens=4,
        min_new_tokens=4,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    said = steps.sequences[:, width : width + 3]
    longer = continued(tensors, said, one_way=model.network.family.one_way)
    assert longer["input_ids"].shape[1] == width + 3
    with torch.no_grad():
        found = twin(**longer).logits[:, -1]
    torch.testing.assert_close(found, steps.logits[3], atol=2e-4, rtol=1e-3)


def test_padding_behind_an_answer_is_not_seen():
    model, twin = model_of("llava"), twin_of("llava")
    tensors = inputs_of(model, "left", "image").tensors
    ids = torch.tensor([[5, 6, 7]]).expand(len(tensors["input_ids"]), -1)
    real = torch.tensor([[True, True, False]]).expand_as(ids)
    with torch.no_grad():
        short = continued(tensors, ids[:, :2], one_way=True)
        expected, seen = twin(**short).logits, short["attention_mask"].bool()
        padded = twin(**continued(tensors, ids, real, one_way=True)).logits[:, :-1]
    torch.testing.assert_close(padded[seen], expected[seen], atol=2e-5, rtol=1e-4)


def test_nothing_behind_is_the_encoding_itself():
    tensors = inputs_of(model_of("llava"), "left", "image").tensors
    same = continued(tensors, torch.zeros(3, 0, dtype=torch.long), one_way=True)
    assert all(same[name] is tensor for name, tensor in tensors.items())
