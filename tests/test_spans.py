"""Which image, turn and characters a token belongs to: in every family, and under templates of the field.

The oracle is the decoded text of the tokens that a position means.
"""

import re
from functools import cache

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.encoding import Encoder, PromptTokens
from cmrm_interp.encoding.reading import Written, number_images
from cmrm_interp.encoding.turns import find_turns
from cmrm_interp.errors import HookPointError, ImageError, InputError, ModelError
from cmrm_interp.families import families
from cmrm_interp.families.tiny import TINY
from cmrm_interp.inputs import EncodedInputs, PromptInputs
from cmrm_interp.positions import Said, at, chars, find, position_mask, token
from tests.support import SIDES, close, network, picture, same, unchecked

MAPS = {kind: family for family in families() for kind in (family.name, *family.model_types)}
SEE = [name for name in TINY if MAPS[name].vision is not None]
# BLIP sees one image a prompt.
MANY = [name for name in SEE if MAPS[name].vision.qformer is None]
MIXED = [name for name in MANY if MAPS[name].vision.mixed]
PICTURES = [picture(0), picture(1, (16, 24)), picture(2, (48, 16))]
TEXT = "what is in the picture ?"


@cache
def reader(family):
    """A model that is asked for its inputs alone."""
    return ci.load(network(family), check=False)


def decoded(inputs, position):
    """Words of the tokens that a position means, row by row."""
    tokenizer = inputs.encoder.tokenizer
    rows = zip(inputs.tensors["input_ids"], inputs.mask(position), strict=True)
    return [tokenizer.convert_ids_to_tokens(ids[mask].tolist()) for ids, mask in rows]


def prompts_of(family):
    """Prompts with a system turn, earlier turns, and as many images as the family takes."""
    history = [("user", "tell me about cats"), ("assistant", "sure cats are kind")]
    if family not in SEE:
        given = [None] * 3
    elif family not in MANY:
        given = PICTURES
    elif family not in MIXED:
        given = [PICTURES[:2], PICTURES[1:], PICTURES[::2]]
    else:
        given = [PICTURES, None, PICTURES[1]]
    return [
        ci.Prompt(TEXT, given[0], "you are kind", history),
        ci.Prompt("describe cats", given[1]),
        ci.Prompt("red blue green", given[2], "yes"),
    ]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", TINY)
def test_turns_and_words_of_every_family(family, side):
    inputs = reader(family).prepare(prompts_of(family), padding_side=side)
    assert decoded(inputs, "system") == [["you", "are", "kind"], [], ["yes"]]
    assert decoded(inputs, "assistant") == [["sure", "cats", "are", "kind"], [], []]
    earlier = "tell me about cats".split()
    assert decoded(inputs, "user") == [
        [*earlier, *TEXT.split()],
        ["describe", "cats"],
        ["red", "blue", "green"],
    ]
    assert decoded(inputs, chars(0)) == [TEXT.split(), ["describe", "cats"], ["red", "blue", "green"]]
    assert decoded(inputs, chars(5, 9)) == [["is", "in"], ["describe"], ["blue"]]
    assert decoded(inputs, find("ASSISTANT:") & ~at("assistant"))[1:] == [["ASSISTANT:"], ["ASSISTANT:"]]
    assert decoded(inputs, find("cats", optional=True)) == [["cats"] * 2, ["cats"], []]
    assert decoded(inputs, re.compile(r"\bpicture \?|describe|green")) == [["picture", "?"], ["describe"], ["green"]]
    assert decoded(inputs, token("red", "are", optional=True)) == [["are"] * 2, [], ["red"]]
    alone = [inputs.batch(slice(n, n + 1)).tokens for n in range(3)]
    for position in ("all", "user", "image", chars(5, 9), find("e"), at("image", -1)):
        counts = [position_mask(position, tokens).sum().item() for tokens in alone]
        assert inputs.mask(position).sum(1).tolist() == counts
    # Padding is on one side of the tokens and never between them.
    assert (inputs.mask("all").int().diff(dim=1).abs().sum(1) <= 1).all()
    assert inputs.mask("all")[:, -1 if side == "left" else 0].all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", SEE)
def test_images_of_every_family(family, side):
    model = reader(family)
    prompts = prompts_of(family)
    inputs = model.prepare(prompts, padding_side=side)
    image = inputs.mask("image")
    same(image, inputs.tensors["input_ids"] == model.encoder.image_token)
    # An image has as many tokens beside others as alone; LLaVA-OneVision cuts it only when it is alone.
    sizes = {id(p): model.prepare(ci.Prompt("red", p)).mask("image").sum().item() for p in PICTURES}
    if family == "llava_onevision":
        sizes = {id(p): 5 for p in PICTURES[::2]} | {id(PICTURES[1]): 5}
    for number in range(3):
        mask = inputs.mask(at("image", number, optional=True))
        assert not (mask & ~image).any()
        for row, prompt in enumerate(prompts):
            wanted = sizes[id(prompt.images[number])] if number < len(prompt.images) else 0
            if family == "llava_onevision" and len(prompt.images) == 1 and wanted:
                wanted = 16
            assert mask[row].sum() == wanted
            # Images do not overlap, and come in the order given.
            if wanted and number:
                before = inputs.mask(at("image", number - 1, optional=True))[row]
                assert before.nonzero().max() < mask[row].nonzero().min()
    numbers = [inputs.mask(at("image", n, optional=True)) for n in range(3)]
    same(torch.stack(numbers).any(0), image)
    last = inputs.mask(at("image", -1))
    for row, prompt in enumerate(prompts):
        same(last[row], numbers[len(prompt.images) - 1][row] if prompt.images else torch.zeros_like(last[row]))
    same(inputs.mask("user") & image, torch.zeros_like(image))


# LLaVA-NeXT's tensors tell images apart by what stands between them, and the tiny template writes nothing there.
@pytest.mark.parametrize("family", [name for name in SEE if name not in ("llava_next", "llava_onevision")])
def test_the_tensors_tell_images_apart_as_the_processor_does(family):
    inputs = reader(family).prepare(prompts_of(family))
    same(inputs.encoder.image_numbers(inputs.tensors), inputs._whole.tokens.numbers)


@pytest.mark.parametrize("family", [name for name in SEE if name in MIXED])
def test_an_encoding_is_read_by_its_tokens(family):
    model = reader(family)
    prepared = model.prepare([ci.Prompt(TEXT, PICTURES[0]), ci.Prompt("describe cats")])
    given = model.from_encoding(dict(prepared.tensors))
    for position in (
        find("cats", optional=True),
        re.compile("picture|describe"),
        at("image", 0),
        token("describe", "?"),
    ):
        same(given.mask(position), prepared.mask(position))
    for position, name in (("user", "'user'"), ("system", "'system'"), (chars(0, 2), r"chars\(0, 2\)")):
        with pytest.raises(
            HookPointError, match=rf"position {name} needs to know who says what: these inputs were made"
        ):
            given.mask(position)


@pytest.mark.parametrize("family", MIXED)
def test_tiles_and_other_marks_of_the_processor_can_be_found(family):
    marks = {
        "idefics3": ("<row_1_col_2>", 1),
        "smolvlm": ("<row_1_col_2>", 1),
        "internvl": ("<img>", 1),
        "pixtral": ("[IMG_BREAK]", 3),
        "mistral3": ("[IMG_BREAK]", 3),
        "gemma3": ("<start_of_image>", 1),
    }
    if family not in marks:
        return
    mark, n = marks[family]
    inputs = reader(family).prepare([ci.Prompt("describe cats"), ci.Prompt(TEXT, PICTURES[0])])
    assert decoded(inputs, find(mark, optional=True)) == [[], [mark] * n]
    assert decoded(inputs, token(mark, optional=True)) == [[], [mark] * n]


def test_mixed_batches_end_where_families_cannot_mix():
    for family in SEE:
        model = reader(family)
        images = [[PICTURES[0]], [PICTURES[1]], None, None, [PICTURES[2]]]
        prompts = [ci.Prompt("red", i) for i in images]
        inputs = model.prepare(prompts)
        wanted = [2, 2, 4, 4, 5] if not model.encoder.mixed else [5] * 5
        assert [inputs.stop_of(start, 9) for start in range(5)] == wanted
        assert [inputs.stop_of(start, 1) for start in range(5)] == [1, 2, 3, 4, 5]
        rows = [batch.rows.tolist() for batch in inputs.batches(4)]
        assert rows == ([[0, 1, 2, 3], [4]] if model.encoder.mixed else [[0, 1], [2, 3], [4]])
        if not model.encoder.mixed:
            with pytest.raises(
                InputError, match=rf"{family} takes no batch of prompts with 0 and 1 images: prepare them"
            ):
                _ = inputs.tensors


def test_batches_of_mllama_have_equally_many_images():
    prompts = [ci.Prompt("red", PICTURES[:n]) for n in (1, 1, 2, 3, 3, 0)]
    inputs = reader("mllama").prepare(prompts)
    assert [batch.rows.tolist() for batch in inputs.batches(6)] == [[0, 1], [2], [3, 4], [5]]


@pytest.mark.parametrize("family", [name for name in SEE if name not in MANY])
def test_more_images_than_a_family_takes(family):
    with pytest.raises(ImageError, match=rf"prompt 1 has 2 images: {family} takes one a prompt"):
        reader(family).prepare([ci.Prompt("red"), ci.Prompt("red", PICTURES[:2])])


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_images_are_given_with_the_prompts_in_order(family):
    model = reader(family)
    with unchecked():
        inputs = model.prepare(["red", "green", "blue"], [PICTURES[:2], None, PICTURES[2]])
    own = model.prepare([ci.Prompt("red", PICTURES[:2]), ci.Prompt("green"), ci.Prompt("blue", PICTURES[2])])
    for name, tensor in own.tensors.items():
        same(inputs.tensors[name], tensor)
    assert inputs.fingerprint() == own.fingerprint()
    with unchecked():
        turned = own.with_images([PICTURES[1::-1], None, PICTURES[2]])
    assert turned.fingerprint() != own.fingerprint()
    assert not torch.equal(turned.tensors["pixel_values"], own.tensors["pixel_values"])
    assert own.without_images().image_counts.tolist() == [0, 0, 0]
    close(model.logits(own, batch_size=1), model.logits(own))


def test_earlier_turns_change_the_fingerprint():
    model = reader("llama")
    said = [(), [("user", "a"), ("assistant", "b")], [("user", "a"), ("assistant", "c")]]
    prints = {model.prepare(ci.Prompt("red", history=history)).fingerprint() for history in said}
    assert len(prints) == 3


# Templates of the field, cut to what matters here: what is stripped, joined, moved or refused.
TEMPLATES = {
    "llama3": (
        "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n\n{{ m['content'] | trim }}<|eot|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n\n{% endif %}"
    ),
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}{{ '<|im_end|>\n' }}{% endfor %}"
        "{{ '<|im_start|>assistant\n' }}"
    ),
    "gemma": (
        "{% set first = messages[0]['content'] + '\n\n' if messages[0]['role'] == 'system' else '' %}"
        "{% for m in messages if m['role'] != 'system' %}<start_of_turn>"
        "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{% if loop.first %}{{ first }}{% endif %}"
        "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}<start_of_turn>model\n"
    ),
    "mistral": (
        "{% for m in messages %}{% if m['role'] == 'user' %}[INST] "
        "{% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\n\n' }}{% endif %}"
        "{{ m['content'] }}[/INST]"
        "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + '</s>' }}{% endif %}{% endfor %}"
    ),
}


def byte_tokenizer(template, extra=(), **named):
    """A tokenizer of bytes and merges, as GPT-2, Llama 3 and Qwen have, trained here on a few lines."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    # Words with the space before them, and line ends run together.
    words = pre_tokenizers.Split(Regex(r"\n+| ?[^\s]+| +"), "isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<|eot|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    lines = ["the cat sat on the mat", "a cat and a dog", "user assistant system\n\n", "\n\n\nthe", "cat\n\n\n"]
    raw.train_from_iterator(lines * 9, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", pad_token="<|eot|>", chat_template=template,
        extra_special_tokens=list(extra), model_specific_special_tokens=named,
    )  # fmt: skip


def text_inputs(template, prompts, side="left"):
    """Inputs of a tokenizer and a template alone."""
    family = reader("llama").family
    encoder = Encoder(family, None, byte_tokenizer(template), None, frozenset({"input_ids", "attention_mask"}))
    return PromptInputs(encoder, tuple(prompts), side)


CHAT = ci.Prompt("  a cat, user?\n", None, "system user", [("user", "user"), ("assistant", " the cat… sat")])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_turns_are_told_apart_even_where_words_look_like_the_template(name, side):
    inputs = text_inputs(TEMPLATES[name], [CHAT, ci.Prompt("assistant")], side)
    tokenizer = inputs.encoder.tokenizer
    strip = name in ("llama3", "gemma")
    own = "a cat, user?" if strip else "  a cat, user?\n"
    said = {"system": "system user", "assistant": "the cat… sat" if strip else " the cat… sat", "user": f"user{own}"}
    for role, text in said.items():
        ids = inputs.tensors["input_ids"][0][inputs.mask(role)[0]]
        # Tokens at the ends may hold a space or a line of the template as well.
        assert tokenizer.decode(ids).strip().replace("\n", "") == text.strip().replace("\n", "")
    assert tokenizer.decode(inputs.tensors["input_ids"][1][inputs.mask("user")[1]]).strip() == "assistant"
    found = [tokenizer.decode(i[m]) for i, m in zip(inputs.tensors["input_ids"], inputs.mask(chars(4, 7)), strict=True)]
    assert CHAT.text[4:7] in found[0]
    assert "sta" in found[1]
    assert not inputs.mask("system")[1].any()


def test_found_words_are_whole_tokens_around_the_match():
    inputs = text_inputs(TEMPLATES["chatml"], [ci.Prompt("the cat… sat on a cat"), ci.Prompt("concatenate")])
    tokenizer, ids = inputs.encoder.tokenizer, inputs.tensors["input_ids"]
    masks = inputs.mask(find("cat"))
    for row, n in ((0, 2), (1, 1)):
        text = tokenizer.decode(ids[row][masks[row]])
        assert text.count("cat") == n
    # A letter of several bytes is several tokens, all of which stand for it.
    bytes_of = inputs.mask(find("…", optional=True))
    assert tokenizer.decode(ids[0][bytes_of[0]]) == "…"
    assert bytes_of[0].sum() > 1
    assert bytes_of[1].sum() == 0
    words = r"nothing in row 1 matches find\('sat'\): its text begins '<\|im_start\|>user"
    with pytest.raises(HookPointError, match=words):
        inputs.mask(find("sat"))
    # A batch names its rows by their number in all of the inputs.
    with pytest.raises(HookPointError, match=words):
        position_mask(find("sat"), inputs.batch(slice(1, 2)).tokens)


@pytest.mark.parametrize("side", SIDES)
def test_text_that_grows_into_what_stands_around_an_image(side):
    # Gemma 3 writes two line ends around an image, which become one token with a line end of the text.
    from transformers import Gemma3Processor

    named = {"boi_token": "<boi>", "image_token": "<soft>", "eoi_token": "<eoi>"}
    template = (
        "<s>{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<boi>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}<|assistant|>"
    )
    model = reader("gemma3")
    tokenizer = byte_tokenizer(template, named.values(), **named)
    processor = Gemma3Processor(model.processor.image_processor, tokenizer, chat_template=template, image_seq_length=4)
    accepts = frozenset({"input_ids", "attention_mask", "pixel_values"})
    encoder = Encoder(model.family, processor, tokenizer, tokenizer.image_token_id, accepts, model.hf.config)
    prompts = (ci.Prompt("\nthe cat", PICTURES[:2], "a cat\n"), ci.Prompt("the mat"), ci.Prompt("\n", PICTURES[0]))
    inputs = PromptInputs(encoder, prompts, side)
    user, system = decoded(inputs, "user"), decoded(inputs, "system")
    line_ends = "\u010a"
    assert user[0][0] == line_ends * 3
    assert "".join(user[0]) == line_ends * 3 + "the\u0120cat"
    assert "".join(user[1]) == "the\u0120mat"
    assert user[2] == [line_ends * 3]
    assert "".join(system[0]) == "a\u0120cat" + line_ends
    assert decoded(inputs, chars(0, 1)) == [[line_ends * 3], user[1][:1], [line_ends * 3]]
    assert [inputs.mask(at("image", n, optional=True)).sum(1).tolist() for n in range(2)] == [[4, 0, 4], [4, 0, 0]]
    given = EncodedInputs.of(encoder, dict(inputs.tensors))
    same(given.mask(find("the", optional=True)), inputs.mask(find("the", optional=True)))


def test_templates_that_rewrite_or_refuse():
    vowels = "{% for m in messages %}{{ m['content'] | replace('a', 'e') }}{% endfor %}"
    inputs = text_inputs(vowels, [ci.Prompt("a cat")])
    assert inputs.mask(find("e cet")).any()
    with pytest.raises(HookPointError, match="this model's chat template rewrites what is said, so that turns cannot"):
        inputs.mask("user")
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}x"
    with pytest.raises(InputError, match=r"chat template refuses these turns \(system, user\): no system here"):
        _ = text_inputs(refuses, [ci.Prompt("a", system="b")]).tensors
    twice = text_inputs("{{ messages[0]['content'] }} and {{ messages[0]['content'] }}", [ci.Prompt("the cat")])
    assert ["".join(row).count("cat") for row in decoded(twice, chars(-3))] == [2]
    drops = text_inputs("the {{ messages[0]['content'] }}", [ci.Prompt("cat", system="mat")])
    with pytest.raises(HookPointError, match=r"row 0: the chat template leaves the text of the prompt out"):
        drops.mask(chars(0))
    forgets = "{{ messages[-1]['content'] }}"
    with pytest.raises(InputError, match="chat template takes no earlier turns: leave history= out"):
        _ = text_inputs(forgets, [ci.Prompt("a", history=[("user", "hi there")])]).tensors


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ("<{0}>[{1}]", [(1, 3), (5, 7)]),
        ("<{1}>{0}", [(1, 3), (4, 6)]),
        ("{0}{1}{0}", [(0, 2), (2, 4), (4, 6)]),
        ("{0}", [(0, 2)]),
        ("begins with {n} {0} {1}", []),
        ("{0} {1} ends with {n}", []),
        ("{0} {n} {1}", []),
    ],
)
def test_where_a_template_writes_what_is_said(form, found):
    said = [
        {"role": role, "content": [{"type": "text", "text": text}]} for role, text in (("user", "ab"), ("user", "cd"))
    ]

    def render(turns):
        texts = [turn["content"][0]["text"] for turn in turns]
        return form.format(*texts, n=sum(map(len, texts)))

    assert [(turn.start, turn.stop) for turn in find_turns(render, said, render(said))] == found


def test_tokenizers_that_do_not_tell_characters():
    model = reader("llama")
    inputs = model.prepare("red")

    class Slow:
        is_fast = False

        def __getattr__(self, name):
            return getattr(model.tokenizer, name)

        def __call__(self, *args, **kwargs):
            return model.tokenizer(*args, **kwargs)

    encoder = Encoder(model.family, None, Slow(), None, model.encoder.accepts)
    slow = PromptInputs(encoder, inputs.prompts)
    same(slow.mask("last"), inputs.mask("last"))
    with pytest.raises(ModelError, match="positions that look at text need a fast tokenizer"):
        slow.mask(find("red"))
    bare = Encoder(model.family, None, None, None, model.encoder.accepts)
    given = EncodedInputs.of(bare, dict(inputs.tensors))
    with pytest.raises(ModelError, match="this model was loaded without a tokenizer: positions that look at text need"):
        given.mask(find("red"))
    with pytest.raises(HookPointError, match="the vocabulary has no token 'violin': look with"):
        inputs.mask(token("violin"))


def test_processors_that_tell_nothing_or_change_what_is_said():
    model = reader("llama")
    inputs = model.prepare("red blue")
    plain = object()
    assert Written(["red"]).record(plain) is plain
    swap = [{"span": (0, 1), "new_span": (0, 3), "replacement": "III"}]
    said = Said("user", 2, 5)
    assert Written(["I red"]).moved(0, said) == said
    assert Written(["I red"], ["I red"], [swap], ["III red"]).moved(0, said) == Said("user", 4, 7)
    assert Written(["I red"], ["Ix red y"], [swap], ["IIIx red y"]).moved(0, said) == Said("user", 5, 8)
    assert Written(["I red"], ["I blue"], [swap], ["III blue"]).moved(0, said) is None
    tensors = {**inputs.tensors, "input_ids": inputs.tensors["input_ids"].flip(1)}
    changed = PromptTokens(model.encoder, tensors, inputs.prompts, Written([model.encoder.text(inputs.prompts[0])]))
    with pytest.raises(ModelError, match="makes other tokens of a prompt than its tokenizer does: positions"):
        position_mask("user", model.encoder.tokens(tensors, changed))


def test_image_tokens_that_do_not_add_up():
    image = torch.tensor([[True, True, True, False], [False] * 4])
    assert number_images(image, [[1, 0, 2], []]).tolist() == [[0, 1, 1, -1], [-1] * 4]
    with pytest.raises(InputError, match="row 0: its image tokens do not match the images of this encoding"):
        number_images(image, [[1, 1], []])


def test_texts_are_worked_out_only_when_asked_for(monkeypatch):
    model = reader("qwen2_vl")
    inputs = model.prepare([ci.Prompt(TEXT, PICTURES[0]), ci.Prompt("describe cats")])
    asked = []
    inner = type(model.tokenizer).__call__

    def call(self, *args, **kwargs):
        asked.append(kwargs.get("return_offsets_mapping", False))
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(type(model.tokenizer), "__call__", call)
    for position in ("last", "image", "text", 0, slice(1, 3), at("image", 0)):
        inputs.mask(position)
    assert asked == [False]
    inputs.mask("user")
    inputs.mask(find("is", optional=True))
    assert asked == [False, True]
