"""Which tokens of two runs belong together: on every kind of prompt, and on tokens written by hand."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.patching import align
from cmrm_interp.patching.matching import Row, match
from cmrm_interp.patching.spans import SPANS, from_the_end, places, spans
from tests.oracles import patching as oracle
from tests.support import TEXTS, VISION, model_of, picture, unchecked


def row(text, image=3):
    """A row of tokens: words apart by spaces, ``_`` for a leading space, ``I`` and ``J`` for tokens of two images."""
    words = text.split()
    ids = tuple(sum(map(ord, word)) * 31 + len(word) for word in words)
    images = tuple({"I": 0, "J": 1}.get(word, -1) for word in words)
    return Row(ids, images, tuple(word.replace("_", "▁") for word in words))


@pytest.mark.parametrize("family", VISION)
def test_text_and_image_runs_align_as_by_hand(family):
    model = model_of(family)
    image, text = model.prepare(TEXTS, picture(0)), model.prepare(TEXTS)
    found = align(text, image)
    a, b = ((x.tensors["input_ids"] * x.tensors["attention_mask"]) for x in (text, image))
    for number, (x, y) in enumerate(zip(a, b, strict=True)):
        # By hand in columns of padded rows; ours are counted over real tokens.
        pads = [int((r == 0).sum()) for r in (x, y)]
        want = [(i - pads[0], j - pads[1]) for i, j in oracle.counterparts(x, y, model.encoder.image_token)]
        assert list(found.pairs[number]) == want
        assert len(want) == int((x != 0).sum()), "every token of the text has its counterpart"
    assert [(y, x) for x, y in align(image, text).pairs[0]] == list(found.pairs[0])


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "idefics3", "pixtral", "gemma4"])
def test_images_of_as_many_tokens_map_token_by_token(family):
    model = model_of(family)
    alike = align(model.prepare(TEXTS[:1], picture(0)), model.prepare(TEXTS[:1], picture(1)))
    n = len(alike.rows[0][0].ids)
    assert list(alike.pairs[0]) == [(i, i) for i in range(n)]
    if family in ("qwen2_vl", "pixtral", "gemma4"):
        other = align(model.prepare(TEXTS[:1], picture(0)), model.prepare(TEXTS[:1], picture(1, (16, 24))))
        (a, b), pairs = other.rows[0], other.pairs[0]
        assert all(a.images[x] < 0 and b.images[y] < 0 for x, y in pairs)
        assert [a.ids[x] for x, _ in pairs] == [b.ids[y] for _, y in pairs]


@pytest.mark.parametrize(
    ("a", "b", "pairs"),
    [
        # A word is another token behind a line's end than behind a space (LLaVA's tokenizer).
        ("U: _how are", "U: _ I I <n> how are", [(0, 0), (1, 5), (2, 6)]),
        # The same word in two tokens there: it has no counterpart, the rest has.
        ("U: _how are", "U: _ I I <n> h ow are", [(0, 0), (2, 7)]),
        # What is around an image stands alone.
        ("s U: what A:", "s U: <v> I I I </v> what A:", [(0, 0), (1, 1), (2, 7), (3, 8)]),
        # An image in front of everything.
        ("s U: what", "I I s U: what", [(0, 2), (1, 3), (2, 4)]),
        # The same word before and behind.
        ("x x", "x I x", [(0, 0), (1, 2)]),
        # Ends of lines within an image belong to it.
        ("s I <br> I <e> w", "s I <br> I <e> v", [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]),
        ("s I <br> I <e> w", "s I I <br> I I <e> w", [(0, 0), (4, 6), (5, 7)]),
        # One image and two.
        ("s I <n> w", "s I J <n> w", [(0, 0), (2, 3), (3, 4)]),
        # Other words, as many.
        ("s a b c", "s a d c", [(0, 0), (1, 1), (2, 2), (3, 3)]),
    ],
)
def test_tokens_by_hand(a, b, pairs):
    assert match(row(a), row(b)) == pairs
    assert match(row(b), row(a)) == [(y, x) for x, y in pairs]


@pytest.mark.parametrize(
    ("a", "b", "pairs"),
    [
        ("s U: a b A:", "s U: c A:", [(0, 0), (1, 1), (4, 3)]),
        ("s U: a A:", "s U: I I c d A:", [(0, 0), (1, 1), (3, 6)]),
        ("s x x x e", "s x x e", [(0, 0), (1, 1), (2, 2), (4, 3)]),
    ],
)
def test_words_of_unequal_length(a, b, pairs):
    with pytest.raises(ci.errors.MismatchError, match="row 7: the two runs cannot be aligned where the one reads"):
        match(row(a), row(b), 7)
    assert match(row(a), row(b), 7, "leave") == pairs
    assert match(row(b), row(a), 7, "leave") == [(y, x) for x, y in pairs]


def test_misaligned_pairs_are_shown():
    model = model_of("llava")
    a = model.prepare(["what is in the picture ?", "tell me about cats and dogs"])
    b = model.prepare(["what is in the cake ?", "tell me about a cake and dogs"])
    with pytest.raises(ci.errors.MismatchError) as error:
        align(a, b)
    assert "row 1" in str(error.value)
    assert "'me about cats and" in str(error.value) or "about cats and dogs" in str(error.value)
    assert "about a cake" in str(error.value)
    assert "unequal='leave'" in str(error.value)
    left = align(a, b, "leave")
    assert len(left.pairs[1]) < len(left.pairs[0])
    with pytest.raises(ci.errors.MismatchError, match="<image> tell me about"):
        align(model.prepare("tell me about cats"), model.prepare("tell me about dogs", picture(0)))


def test_what_cannot_be_aligned():
    model = model_of("llava")
    with pytest.raises(ci.errors.MismatchError, match="2 rows and 1 rows"):
        align(model.prepare(TEXTS[:2]), model.prepare(TEXTS[:1]))
    with unchecked(), pytest.raises(ci.errors.InputError, match="unequal='drop': use 'refuse' or 'leave'"):
        align(model.prepare(TEXTS[:1]), model.prepare(TEXTS[:1]), "drop")
    with unchecked(), pytest.raises(ci.errors.InputError, match=r"inputs is a str: make it with model\.prepare"):
        align("what", model.prepare(TEXTS[:1]))
    text = model_of("llama")
    ids = {"input_ids": torch.tensor([[7, 8, 9]])}, {"input_ids": torch.tensor([[4, 5]])}
    with pytest.raises(ci.errors.MismatchError, match="row 0: no token is common to both runs"):
        align(*map(text.from_encoding, ids), "leave")


def test_the_table_shows_both_runs():
    model = model_of("llava")
    table = align(model.prepare(TEXTS[:1]), model.prepare(TEXTS[:1], picture(0))).table()
    assert len(table) == 25
    assert table["a"].isna().sum() == 16
    assert (table.dropna()["token of a"] == table.dropna()["token of b"]).all()
    back = align(model.prepare(TEXTS[:1], picture(0)), model.prepare(TEXTS[:1])).table()
    assert back["b"].isna().sum() == 16
    assert "9 to 25 tokens, 9 pairs" in repr(align(model.prepare(TEXTS[:1]), model.prepare(TEXTS[:1], picture(0))))


def test_spans_part_the_prompt():
    model = model_of("qwen2_vl")
    image = model.prepare(TEXTS, picture(0))
    masks = torch.stack([image.mask(position) for position in SPANS.values()])
    assert torch.equal(masks.sum(0), image.mask("all").long()), "each token is in one span"
    both = spans(align(image, image.with_images(picture(1))))
    assert [(name, int(place.counts[0])) for name, place in both.items()] == [
        ("template before", 4),
        ("image", 16),
        ("user", 6),
        ("last", 1),
    ]
    own = spans(align(image, image), {"question": ci.positions.find("?", optional=True) | ci.at("first")})
    assert own["question"].counts.tolist() == [2, 1, 2]


def test_tokens_from_the_end():
    model = model_of("llava")
    found = from_the_end(align(model.prepare(TEXTS), model.prepare(TEXTS, picture(0))))
    # Rows say 6, 10 and 7 words: seven tokens from the end are words or template in all of them.
    assert list(found) == [-7, -6, -5, -4, -3, -2, -1]
    assert found[-1].numbers.tolist() == [[8], [12], [9]]
    with pytest.raises(ci.errors.MismatchError, match="-8: row 0 has 1 such tokens, and none has a counterpart"):
        from_the_end(align(model.prepare(TEXTS), model.prepare(TEXTS, picture(0))), [-8])


def test_places_say_where_counterparts_are():
    model = model_of("llava")
    found = places(align(model.prepare(TEXTS), model.prepare(TEXTS, picture(0))), {"all": "all"})["all"]
    assert found.counts.tolist() == [25, 29, 26]
    assert found.per_row.tolist() == [9, 13, 10]
    assert found.numbers[0].tolist() == [0, 1, *[-1] * 16, 2, 3, 4, 5, 6, 7, 8, *[-1] * 4]


def test_turns_that_are_not_known_are_said():
    model = model_of("llava")
    given = model.from_encoding(model.prepare(TEXTS[:1]).tensors)
    with pytest.raises(ci.errors.HookPointError, match="these inputs were made by from_encoding"):
        spans(align(given, given))
    assert list(spans(align(given, given), {"all": "all", "last": "last"})) == ["all", "last"]
