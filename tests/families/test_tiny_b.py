"""Tiny models whose processors nest, tile or answer with queries: encoded, run, saved and loaded."""

import pytest
import torch
from PIL import ImageOps
from transformers import AutoModelForCausalLM

from cmrm_interp.families.tiny import tiny
from tests.families.strangers import strangers
from tests.support import SIDES, TEXTS, close, picture, same

# How each processor takes the pictures of several prompts: one flat list, or one list for each prompt.
NESTED = ("mllama", "smolvlm")
FLAT = ("idefics3", "blip_2", "instructblip", "mistral3", "pixtral", "aya_vision", "deepseek_vl")
FAMILIES = (*NESTED, *FLAT)
# One picture for every prompt or none for all, and a whole that does not run without.
QUERIED = ("blip_2", "instructblip")
# Tokens that may see no image attend, evenly, to all of them and to the padding: rows depend on their batch.
ABSENT_IMAGES = ("mllama",)
SMALL, WIDE, TALL = picture(0), picture(1, (50, 14)), picture(2, (24, 70))


def encode(family, processor, rows, side="left"):
    """What the processor makes of rows, each a text and its pictures."""
    turns = [
        [{"role": "user", "content": [{"type": "image"}] * len(pictures) + [{"type": "text", "text": text}]}]
        for text, pictures in rows
    ]
    texts = [processor.tokenizer.apply_chat_template(t, tokenize=False, add_generation_prompt=True) for t in turns]
    nested = [list(pictures) for _, pictures in rows]
    flat = [p for pictures in nested for p in pictures]
    images = (nested if family in NESTED else flat) if flat else None
    # Some processors have a padding side of their own; InstructBLIP's would pad the Q-Former's prompt with it as well.
    padding = {} if family == "instructblip" else {"padding_side": side}
    processor.tokenizer.padding_side = side
    kwargs = {"padding": True, "return_tensors": "pt", "add_special_tokens": False, **padding}
    return processor(text=texts, images=images, **kwargs)


@torch.no_grad()
def last_logits(hf, encoding):
    """Logits at the last real token of each row."""
    mask = encoding["attention_mask"]
    last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = hf(**encoding, position_ids=positions).logits[torch.arange(len(mask)), last]
    assert logits.isfinite().all()
    return logits


def text_logits(family, hf, processor):
    """Logits for the prompts without pictures."""
    encoding = encode(family, processor, rows_of((), ()))
    if family not in QUERIED:
        return last_logits(hf, encoding)
    return last_logits(hf.language_model, {name: encoding[name] for name in ("input_ids", "attention_mask")})


def rows_of(*pictures):
    """A row for each tuple of pictures."""
    return list(zip(TEXTS, pictures, strict=False))


PAIR = rows_of((SMALL,), (TALL,))
MIXES = {"two images": rows_of((SMALL,), (WIDE, TALL)), "text row": rows_of((SMALL,), (), (TALL,))}


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_of_the_seed(family):
    first, again, other = (tiny(family, seed=seed)[0].state_dict() for seed in (0, 0, 1))
    assert sum(p.numel() for p in first.values()) * 4 < 300_000
    for name, weight in first.items():
        same(weight, again[name])
        assert torch.equal(weight, other[name]) == (not weight.is_floating_point()), name


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_batches_change_nothing_and_pictures_do(family):
    hf, processor = tiny(family)
    hf.set_attn_implementation("eager")
    left, right = (last_logits(hf, encode(family, processor, PAIR, side)) for side in SIDES)
    close(left, right)
    close(left, torch.cat([last_logits(hf, encode(family, processor, [row])) for row in PAIR]))
    inverted = [(text, [ImageOps.invert(p) for p in pictures]) for text, pictures in PAIR]
    assert (last_logits(hf, encode(family, processor, inverted)) - left).abs().amax(1).min() > 0.01
    assert (text_logits(family, hf, processor) - left).abs().amax(1).min() > 0.01


# Tokens that stand for pieces of SMALL, WIDE and TALL; where the tower's layers are; rows of each picture in there.
PIECES = {
    "mllama": ((1, 1, 1), "model.vision_model.transformer", (1, 1, 1)),
    "smolvlm": ((20, 12, 12), "model.vision_model.encoder", (5, 3, 3)),
    "idefics3": ((20, 12, 12), "model.vision_model.encoder", (5, 3, 3)),
    "blip_2": ((4, 4, 4), "vision_model.encoder", (1, 1, 1)),
    "instructblip": ((4, 4, 4), "vision_model.encoder", (1, 1, 1)),
    "mistral3": ((16, 4, 8), "model.vision_tower.transformer", (1, 1, 1)),
    "pixtral": ((16, 4, 8), "model.vision_tower.transformer", (1, 1, 1)),
    "aya_vision": ((20, 20, 16), "model.vision_tower.encoder", (5, 5, 4)),
    "deepseek_vl": ((16, 16, 16), "model.vision_model.encoder", (1, 1, 1)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_becomes_so_many_tokens_and_rows_of_the_tower(family):
    hf, processor = tiny(family)
    pieces, tower, rows = PIECES[family]
    seen = []
    layer = hf.get_submodule(f"{tower}.layers.0")
    layer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args or (kwargs["hidden_states"],))[0]), with_kwargs=True
    )
    for number, (image, wanted) in enumerate(zip((SMALL, WIDE, TALL), zip(pieces, rows, strict=True), strict=True)):
        encoding = encode(family, processor, [(TEXTS[0], (image,))])
        last_logits(hf, encoding)
        counted = int((encoding["input_ids"] == hf.config.image_token_id).sum())
        assert (counted, len(seen[number])) == wanted


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in QUERIED])
def test_rows_with_other_numbers_of_pictures_share_a_batch(family, mix):
    hf, processor = tiny(family)
    left, right = (last_logits(hf, encode(family, processor, MIXES[mix], side)) for side in SIDES)
    close(left, right)
    if family not in ABSENT_IMAGES:
        close(left, torch.cat([last_logits(hf, encode(family, processor, [row])) for row in MIXES[mix]]))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", FAMILIES)
def test_generation_runs(family, side):
    hf, processor = tiny(family)
    hf.generation_config.eos_token_id = None
    encoding = encode(family, processor, PAIR, side)
    tokens = hf.generate(**encoding, max_new_tokens=3, do_sample=False)
    assert tokens[:, -3:].shape == (2, 3)
    if side == "left":
        assert torch.equal(tokens[:, -3], last_logits(hf, encoding).argmax(-1))


@pytest.mark.parametrize("config", [{}, {"do_layer_norm_before": False, "word_embed_proj_dim": 16}], ids=["", "350m"])
def test_opt_runs_and_loads(config, tmp_path):
    hf, tokenizer = tiny("opt", **config)
    hf.generation_config.eos_token_id = None
    left, right = (tokenizer(TEXTS, padding=True, padding_side=side, return_tensors="pt") for side in SIDES)
    logits = last_logits(hf, left)
    close(logits, last_logits(hf, right))
    tokens = hf.generate(**left, max_new_tokens=3, do_sample=False)
    assert torch.equal(tokens[:, -3], logits.argmax(-1))
    hf.save_pretrained(tmp_path)
    same(last_logits(AutoModelForCausalLM.from_pretrained(tmp_path), left), logits)


@pytest.mark.parametrize("name", strangers())
@torch.no_grad()
def test_strangers_see(name):
    hf, encoding = strangers()[name]()
    tokens = hf.generate(**encoding, max_new_tokens=3, do_sample=False)
    assert tokens[:, -3:].shape == (2, 3)
    logits = last_logits(hf, encoding)
    changed = last_logits(hf, {**encoding, "pixel_values": -encoding["pixel_values"]})
    assert (changed[0] - logits[0]).abs().max() > 0.01
    close(changed[1], logits[1])
