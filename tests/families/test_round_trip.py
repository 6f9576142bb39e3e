"""A checkpoint in a folder, saved as transformers saves it, is loaded as what it was."""

import pytest

import cmrm_interp as ci
from cmrm_interp.errors import ModelError
from cmrm_interp.families import TINY, tiny
from tests.support import TEXTS, close, picture

# AutoTokenizer takes every tokenizer of a Qwen2 for one of byte pairs, whatever its files say.
OTHER_TOKENIZER = ("qwen2",)


def images_of(model):
    """One, none and two pictures, where the family can."""
    if model.family.vision is None:
        return None
    return [picture(0), None, picture(1) if model.family.vision.qformer else [picture(2, (24, 16)), picture(1)]]


@pytest.mark.parametrize("name", [name for name in TINY if name not in OTHER_TOKENIZER])
def test_a_folder_is_as_good_as_the_model_in_it(name, tmp_path):
    hf, processor = tiny(name)
    hf.set_attn_implementation("eager")
    hf.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    given, loaded = ci.load((hf, processor)), ci.load(tmp_path, attn_implementation="eager")
    assert loaded.family == given.family
    assert loaded.fingerprint == given.fingerprint
    a, b = (model.logits(model.prepare(TEXTS, images_of(model))) for model in (given, loaded))
    close(a, b)


def test_a_processor_without_its_video_part_says_so_only_when_a_video_comes():
    _, processor = tiny("qwen2_vl")
    processor(text=["<s> red"], images=None)
    with pytest.raises(ModelError, match="videos need torchvision, which is not installed"):
        processor(text=["<s> red"], videos=[[picture(0)]])
