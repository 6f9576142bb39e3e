"""Inputs: template, images, padding, and which tokens are which."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, ImageError, InputError, ModelError
from tests.support import (
    FAMILIES,
    SIDES,
    TEXTS,
    VISION,
    close,
    fresh,
    inputs_of,
    model_of,
    network,
    picture,
    same,
    unchecked,
)

POST = "blocks.1.hook_resid_post"
# Written down here token by token; tests/test_spans.py reads the tokens of every family.
PLAIN = ["llava", "qwen2_vl"]


def words(model, row):
    """Tokens of a row, images as one word and padding left out."""
    image = model.encoder.image_token
    out = []
    for i in row.tolist():
        token = "IMAGE" if i == image else model.tokenizer.convert_ids_to_tokens(i)
        if token != "<pad>" and not (token == "IMAGE" and out[-1:] == ["IMAGE"]):
            out.append(token)
    return " ".join(out)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("system", [None, "you are kind"])
@pytest.mark.parametrize("family", [*PLAIN, "llama"])
def test_tokens_are_those_of_the_template(family, system, side):
    model = model_of(family)
    image = {"llava": "IMAGE ", "qwen2_vl": "<|vision_start|> IMAGE <|vision_end|> ", "llama": ""}[family]
    inputs = inputs_of(model, side, system=system)
    before = "" if system is None else f"{system} "
    for row, (ids, text) in enumerate(zip(inputs.tensors["input_ids"], TEXTS, strict=True)):
        picture = "" if row == 1 else image
        assert words(model, ids) == f"<s> {before}USER: {picture}{text} ASSISTANT:"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", FAMILIES)
def test_masks(family, side):
    model = model_of(family)
    inputs = inputs_of(model, side)
    ids, real = inputs.tensors["input_ids"], inputs.mask("all")
    same(real, ids != 0)
    assert real[:, -1 if side == "left" else 0].all()
    for row in range(3):
        columns = real[row].nonzero().flatten()
        for position, wanted in (
            ("last", columns[-1:]),
            (0, columns[:1]),
            (-2, columns[-2:-1]),
            (slice(1, 4), columns[1:4]),
        ):
            same(inputs.mask(position)[row].nonzero().flatten(), wanted)
    same(inputs.mask("image"), ids == model.encoder.image_token if model.family.vision else torch.zeros_like(real))
    same(inputs.mask("image") | inputs.mask("text"), real)
    assert (ids[inputs.mask("last")] == model.tokenizer.convert_tokens_to_ids("ASSISTANT:")).all()


@pytest.mark.parametrize("family", PLAIN)
def test_images_of_unequal_size_have_their_own_tokens(family):
    inputs = inputs_of(model_of(family), kind="image")
    counts = inputs.mask("image").sum(1).tolist()
    assert counts == {"llava": [16, 16, 16], "qwen2_vl": [16, 6, 6]}[family]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", PLAIN)
def test_versions_of_a_prompt_differ_in_nothing_but_the_image(family, side):
    model = model_of(family)
    system = "you are kind"
    with_image = inputs_of(model, side, "image", system)
    text = with_image.without_images()
    again = text.with_images([p.image for p in with_image.prompts])
    for name, tensor in with_image.tensors.items():
        same(again.tensors[name], tensor)
    for name, tensor in inputs_of(model, side, "text", system).tensors.items():
        same(text.tensors[name], tensor)
    assert "pixel_values" not in text.tensors
    rest = {
        model.encoder.image_token,
        0,
        *model.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"]),
    }
    for one, other in zip(with_image.tensors["input_ids"].tolist(), text.tensors["input_ids"].tolist(), strict=True):
        assert [i for i in one if i not in rest] == [i for i in other if i not in rest]
    assert with_image.has_images
    assert not text.has_images
    blank = with_image.with_images(picture(9))
    same(blank.tensors["input_ids"][0], with_image.tensors["input_ids"][0]) if family == "llava" else None


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_cover_the_rows_once(family):
    inputs = inputs_of(model_of(family))
    for n in (1, 2, 3, 7):
        assert torch.cat([batch.rows for batch in inputs.batches(n)]).tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="a batch of 0 rows: give at least 1"):
        next(inputs.batches(0))


def test_inputs_are_encoded_a_batch_at_a_time():
    model, sizes = fresh("llava"), []
    inner = model.processor.image_processor.preprocess
    model.processor.image_processor.preprocess = lambda images, *a, **k: (
        sizes.append(len(images)) or inner(images, *a, **k)
    )
    inputs = model.prepare(TEXTS * 2, picture())
    assert sizes == []
    model.capture(inputs, POST, batch_size=2)
    assert sizes == [2, 2, 2]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ["text", "image", "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoding_is_as_good_as_prompts(family, kind, side):
    model = model_of(family)
    prepared = inputs_of(model, side, kind)
    given = model.from_encoding(dict(prepared.tensors))
    assert (len(given), given.padding_side) == (3, side)
    for position in ("last", "all", "image", "text", -2):
        same(given.mask(position), prepared.mask(position))
    same(model.logits(given), model.logits(prepared))
    assert model.generate(given, max_new_tokens=4) == model.generate(prepared, max_new_tokens=4)
    for batch_size in (1, 2):
        close(model.logits(given, batch_size=batch_size), model.logits(prepared))
        assert model.generate(given, (), 4, batch_size) == model.generate(prepared, max_new_tokens=4)
        acts = model.capture(given, POST, batch_size=batch_size)
        close(acts[POST], model.capture(prepared, POST)[POST])


@pytest.mark.parametrize("kind", ["text", "image", "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_generation_does_not_see_the_padding_side(family, kind):
    model = model_of(family)
    left, right = (inputs_of(model, side, kind) for side in SIDES)
    wanted = model.generate(left, max_new_tokens=5)
    assert model.generate(right, max_new_tokens=5) == wanted
    assert model.generate(model.from_encoding(right.tensors), max_new_tokens=5) == wanted
    close(model.logits(right), model.logits(left))


def test_several_images_a_row_stay_with_their_row():
    model = model_of("qwen2_vl")
    turns = ["<s> USER: " + "<|vision_start|><|image_pad|><|vision_end|>" * n + " red ASSISTANT:" for n in (2, 0, 1)]
    pictures = [picture(0), picture(1, (16, 24)), picture(2, (24, 32))]
    tensors = model.processor(text=turns, images=pictures, padding=True, padding_side="left", return_tensors="pt")
    inputs = model.from_encoding({n: t for n, t in tensors.items() if n in model.encoder.accepts})
    for batch_size in (1, 2):
        close(model.logits(inputs, batch_size=batch_size), model.logits(inputs))


def test_a_model_without_processor_takes_encodings_alone():
    model = ci.load((network("llava")[0], None))
    tensors = inputs_of(model_of("llava")).tensors
    same(model.logits(model.from_encoding(tensors)), model_of("llava").logits(inputs_of(model_of("llava"))))
    assert model.generate_tokens(model.from_encoding(tensors), max_new_tokens=2).shape == (3, 2)
    with pytest.raises(ModelError, match=r"loaded without a processor: use model.from_encoding\(tensors\)"):
        model.prepare("red")
    with pytest.raises(ModelError, match=r"loaded without a tokenizer: use model.generate_tokens"):
        model.generate(model.from_encoding(tensors))
    with pytest.raises(InputError, match=r"made by from_encoding and have no prompts: use model.prepare"):
        model.from_encoding(tensors).without_images()


IDS = torch.tensor([[1, 5, 6], [1, 7, 8]])


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, r"an encoding needs input_ids of shape \(batch, pos\); this one has nothing"),
        ({"attention_mask": IDS}, "this one has attention_mask"),
        ({"input_ids": IDS[0]}, "an encoding needs input_ids of shape"),
        ({"input_ids": IDS, "attention_mask": IDS[:1]}, r"input_ids \(2, 3\) and attention_mask \(1, 3\) differ"),
        ({"input_ids": IDS, "attention_mask": torch.tensor([[1, 0, 1], [1, 1, 1]])}, "one unbroken run of ones"),
        ({"input_ids": IDS, "attention_mask": torch.tensor([[0, 0, 0], [1, 1, 1]])}, "one unbroken run of ones"),
        ({"input_ids": IDS, "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 0]])}, "pad all on one side"),
    ],
)
def test_encodings_that_mean_nothing(tensors, words):
    with pytest.raises(InputError, match=words):
        model_of("llama").from_encoding(tensors)


def test_what_cannot_be_prepared():
    text, vlm = model_of("llama"), model_of("llava")
    with pytest.raises(ImageError, match=r"1 images for a text-only model \(llama\): leave images= out"):
        text.prepare("red", picture())
    with pytest.raises(ImageError, match="2 images for 1 prompts: give one image for all, or one"):
        vlm.prepare("red", [picture(), picture()])
    with pytest.raises(InputError, match="the list of prompts is empty: give at least one"):
        vlm.prepare([])
    with unchecked(), pytest.raises(InputError, match="padding_side='middle': use 'left' or 'right'"):
        vlm.prepare("red", padding_side="middle")
    with (
        unchecked(),
        pytest.raises(InputError, match=r"inputs is a str: make it with model.prepare\(prompts, images\)"),
    ):
        vlm.logits("red")
    with pytest.raises(HookPointError, match="no position 'lst'"):
        vlm.prepare("red").mask("lst")


@pytest.mark.parametrize("family", VISION)
def test_the_mark_of_an_image_is_no_text(family):
    model = model_of(family)
    mark = getattr(model.processor, "boi_token", None) or model.tokenizer.convert_ids_to_tokens(
        model.encoder.image_token
    )
    for images in (None, picture()):
        with pytest.raises(InputError, match=rf"prompt 1 contains '{re.escape(mark)}', .*: leave it out"):
            model.prepare(["red", f"{mark} blue"], images)


def test_a_template_without_system_prompts_says_so():
    model = fresh("llama")
    model.tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    with pytest.raises(InputError, match="takes no system prompt: put it into the user text instead"):
        model.prepare("red", system="you are kind")


def test_a_model_without_template_says_so():
    model = fresh("llama")
    model.tokenizer.chat_template = None
    with pytest.raises(InputError, match=r"no chat template: load it with chat_template='...' \(Jinja\)"):
        model.prepare("red")
    given = ci.load(network("llama"), chat_template="<s> {{ messages[0]['content'] }}")
    assert words(given, given.prepare("red blue").tensors["input_ids"][0]) == "<s> red blue"


def test_fingerprints_know_inputs_again():
    model = model_of("llava")
    kinds = [inputs_of(model, kind=k).fingerprint() for k in ("text", "image", "mixed")]
    assert len({*kinds, model.prepare(TEXTS, system="you").fingerprint()}) == 4
    assert inputs_of(model, kind="image").fingerprint() == kinds[1]


def test_threads_encode_as_one_does():
    model = model_of("blip_2")
    inputs = inputs_of(model)
    wanted, errors = inputs.batch(slice(0, len(inputs))).tensors, []

    def work():
        for _ in range(60):
            tensors = inputs.batch(slice(0, len(inputs))).tensors
            if any(not torch.equal(tensors[name], wanted[name]) for name in wanted):
                errors.append("other tensors")

    with ThreadPoolExecutor(4) as pool:
        errors += [str(task.exception()) for task in [pool.submit(work) for _ in range(4)] if task.exception()]
    assert errors == []
