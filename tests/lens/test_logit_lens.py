"""The logit lens: against the model's logits, against norm and head by hand, at the tokens that were asked for."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.lens import logit_lens
from tests.oracles import hooks as oracle
from tests.oracles.maps import at, net
from tests.support import (
    FAMILIES,
    SIDES,
    VISION,
    close,
    fresh,
    inputs_of,
    model_of,
    network,
    same,
    twin_of,
    unchecked,
    vectors,
)

# Qwen3-VL adds image features between blocks and Gemma 4 scales the last one, so that their states are others.
BY_HAND = ("llava", "qwen2_vl", "blip_2", "paligemma2", "idefics3", "aya_vision", "gpt2", "gemma2", "opt", "llama")


def real(inputs):
    return inputs.mask("all")


# Where padding goes is no matter of the family but for its positions: learnt, rotary, of three axes.
PADDED = [(family, "right") for family in ("llava", "qwen2_vl", "gemma3", "mllama", "gpt2", "opt")]


@pytest.mark.parametrize(("family", "side"), [*((family, "left") for family in FAMILIES), *PADDED])
def test_the_last_layer_is_the_model(family, side):
    model = model_of(family)
    inputs = inputs_of(model, side)
    found = logit_lens(model, inputs, layers=[-1], positions="all", keep_logits=True)
    close(found.logits(-1), model.logits(inputs, positions="all")[real(inputs)])


@pytest.mark.parametrize("family", BY_HAND)
def test_middle_layers_are_norm_and_head_by_hand(family):
    model, twin = model_of(family), twin_of(family)
    inputs = inputs_of(model, "left", "image")
    found = logit_lens(model, inputs, positions="all", keep_logits=True)
    states = oracle.hidden_states(twin, inputs.tensors)
    with torch.no_grad():
        for layer in range(-1, model.n_layers - 1):
            stream = states[layer + 1][real(inputs)]
            logits = oracle.head(twin)(at(oracle.decoder(twin), net(twin).norm)(stream))
            cap = oracle.softcap(twin)
            wanted = logits if cap is None else cap * torch.tanh(logits / cap)
            close(found.logits("embed" if layer == -1 else layer), wanted)


def test_soft_caps_are_not_taken_for_granted():
    # Aya Vision's configuration names a factor that the model does not apply; Gemma 2 applies its cap.
    model = model_of("gemma2")
    capped = logit_lens(model, inputs_of(model), keep_logits=True).logits(1)
    assert float(capped.abs().max()) < oracle.softcap(twin_of("gemma2"))
    assert twin_of("aya_vision").config.get_text_config().logit_scale == 0.5


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_image_tokens_are_read_where_they_are(family):
    model = model_of(family)
    left, right = (logit_lens(model, inputs_of(model, side, "mixed"), positions="image") for side in SIDES)
    table = left.table()
    assert set(table["prompt"]) == {0, 2}, "the second prompt has no image"
    assert set(left.places.token.tolist()) == {model.hf.config.image_token_id}
    for prompt in (0, 2):
        mine = table[(table["prompt"] == prompt) & (table["layer"] == 0)]
        assert list(mine["patch"]) == list(range(len(mine)))
        ids = model.prepare(inputs_of(model).prompts[prompt]).tensors["input_ids"][0]
        assert list(mine["position"]) == (ids == model.hf.config.image_token_id).nonzero().flatten().tolist()
    for name in ("prompt", "position", "token", "image", "patch"):
        assert list(table[name]) == list(right.table()[name]), "positions count tokens, whatever the padding"
    close(left.readout.probability, right.readout.probability)


def test_text_tokens_belong_to_no_image():
    model = model_of("llava")
    table = logit_lens(model, inputs_of(model), positions="all", layers=1).table()
    text = table[table["token"] != "<image>"]
    assert set(text["image"]) == set(text["patch"]) == {-1}
    assert list(table[(table["prompt"] == 0)]["position"]) == list(range(int(real(inputs_of(model))[0].sum())))


def test_images_of_one_prompt_are_told_apart():
    model = model_of("llava")
    inputs = inputs_of(model, kind="image")
    first, second = inputs.prompts[0].image, inputs.prompts[1].image
    table = logit_lens(model, model.prepare("what is this ?", [[first, second]]), positions="image", layers=0).table()
    assert table.groupby("image")["patch"].apply(list).to_dict() == {0: list(range(16)), 1: list(range(16))}


def test_what_is_read_is_what_torch_finds_in_the_logits():
    model = model_of("llava")
    found = logit_lens(model, inputs_of(model), positions="all", tokens=["cats", 7], k=4, keep_logits=True)
    cats = model.tokenizer.get_vocab()["cats"]
    for number, layer in enumerate(found.layers):
        logits = found.logits("embed" if layer == -1 else layer).float()
        spread = torch.distributions.Categorical(logits=logits)
        values, ids = logits.softmax(-1).topk(4)
        same(found.readout.top[number], ids)
        close(found.readout.probability[number], values)
        close(found.readout.entropy[number], spread.entropy())
        order = logits.argsort(-1, descending=True)
        for i, token in enumerate((cats, 7)):
            close(found.readout.asked[number, :, i], spread.probs[:, token])
            same(found.readout.rank[number, :, i], (order == token).nonzero()[:, 1] + 1)


def test_the_table_says_what_was_read():
    model = model_of("llava")
    found = logit_lens(model, inputs_of(model), layers=["embed", 1], tokens="cats", positions=-1)
    table = found.table()
    assert list(table)[:6] == ["prompt", "layer", "position", "token", "image", "patch"]
    assert list(table)[6:] == ["top", "probability", "entropy", "p(cats)", "rank(cats)"]
    assert list(table["layer"]) == [-1] * 3 + [1] * 3
    words = model.tokenizer.convert_ids_to_tokens(found.readout.top[1, :, 0].tolist())
    assert list(table["top"])[3:] == words
    assert list(table["token"])[:3] == ["ASSISTANT:"] * 3
    top = found.top(prompt=2, layer=1)
    assert list(top["rank"]) == [1, 2, 3, 4, 5]
    assert list(top["id"]) == found.readout.top[1, 2].tolist()
    assert top["token"][0] == words[2]


def test_ids_come_as_tensors():
    model = model_of("llava")
    inputs = inputs_of(model)
    best = model.logits(inputs)[0].argmax()
    with unchecked():
        found = logit_lens(model, inputs, tokens=best)
        assert logit_lens(model, inputs, tokens=[best, "cats"]).asked == (str(int(best)), "cats")
    assert found.asked == (str(int(best)),)
    assert int(found.readout.rank[-1, 0, 0]) == 1


def test_batches_and_room_change_nothing(monkeypatch):
    model = model_of("llava")
    whole = logit_lens(model, inputs_of(model), positions="all", keep_logits=True)
    monkeypatch.setattr("cmrm_interp.lens.unembedding.ROOM", 3 * model.hf.config.get_text_config().vocab_size)
    parts = logit_lens(model, inputs_of(model), positions="all", keep_logits=True, batch_size=1)
    close(parts.readout.logits, whole.readout.logits)
    same(parts.places.position, whole.places.position)


def test_it_reads_after_interventions():
    model = model_of("llava")
    inputs = inputs_of(model)
    acting = ci.Subtract(vectors(model, "blocks.1.hook_resid_post"), alpha=3.0, positions="all")
    found = logit_lens(model, inputs, keep_logits=True, interventions=acting)
    close(found.logits(-1), model.logits(inputs, acting))
    plain = logit_lens(model, inputs, keep_logits=True)
    same(found.logits(0), plain.logits(0))
    assert not torch.allclose(found.logits(1), plain.logits(1))


def test_the_model_is_left_as_it_was():
    model = fresh("llava")
    before = model.logits(inputs_of(model))
    logit_lens(model, inputs_of(model), positions="all")
    same(model.logits(inputs_of(model)), before)
    assert all(parameter.grad is None for parameter in model.hf.parameters())


def test_half_precision():
    model = fresh("gemma2")
    model.hf.to(torch.bfloat16)
    inputs = inputs_of(model)
    found = logit_lens(model, inputs, keep_logits=True)
    assert found.readout.logits.dtype == torch.bfloat16
    torch.testing.assert_close(found.logits(-1), model.logits(inputs), rtol=0.02, atol=0.02)


def test_a_model_whose_head_does_something_else_has_no_lens():
    model = fresh("llama")
    model.hf.model.norm.register_forward_hook(lambda module, given, out: out + torch.arange(out.shape[-1]))
    with pytest.raises(ModelError, match=r"do not give the model's logits .* it has no lens here"):
        logit_lens(model, inputs_of(model))


def test_a_model_that_runs_elsewhere_has_no_lens(tmp_path):
    hf, processor = network("llama")
    hf.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    far = ci.load(tmp_path, remote="local")
    with pytest.raises(ModelError, match="needs the weights of norm and head here, and this model runs elsewhere"):
        logit_lens(far, far.prepare("cats"))


def test_encodings_can_be_read_without_a_tokenizer():
    whole = model_of("llava")
    tensors = inputs_of(whole, kind="image").tensors
    bare = ci.load((whole.hf, None), check=False)
    found = logit_lens(bare, bare.from_encoding(tensors), positions="image", tokens=[3])
    assert found.table()["top"].str.fullmatch(r"#\d+").all()
    with pytest.raises(ModelError, match="loaded without a tokenizer: give ids"):
        logit_lens(bare, bare.from_encoding(tensors), tokens="cats")


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"layers": 9}, HookPointError, r"no layer 9: this model has 4 layers \(0-3\)"),
        ({"layers": []}, HookPointError, "layers is empty"),
        ({"layers": "middle"}, HookPointError, "no layer 'middle': use numbers 0-3, or 'embed'"),
        ({"k": 0}, InputError, "k=0 top tokens: use 1 to"),
        ({"k": 2.5}, InputError, "k=2.5 top tokens: use 1 to"),
        ({"tokens": 2.5}, InputError, "no token 2.5: ids of this vocabulary are 0 to"),
        ({"k": 10_000}, InputError, "k=10000 top tokens: use 1 to"),
        ({"tokens": "cats dogs"}, InputError, r"'cats dogs' is 2 tokens \('cats', 'dogs'\)"),
        ({"tokens": [99_999]}, InputError, "no token 99999: ids of this vocabulary are 0 to"),
        ({"positions": "imagge"}, HookPointError, "no position 'imagge'"),
        ({"lense": None}, InputError, "no argument 'lense': use layers, positions, tokens, k, lens"),
    ],
)
def test_what_cannot_be_asked_is_said(how, error, message):
    model = model_of("llava")
    with unchecked(), pytest.raises(error, match=message):
        logit_lens(model, inputs_of(model), **how)


@pytest.mark.parametrize("family", ["llava", "mllama"])
def test_image_tokens_of_texts_are_refused(family):
    model = model_of(family)
    with pytest.raises(
        HookPointError, match="none of these 3 prompts has a token at positions='image': give them images"
    ):
        logit_lens(model, inputs_of(model, kind="text"), positions="image")


def test_words_of_a_result_that_were_not_read():
    found = logit_lens(model_of("llava"), inputs_of(model_of("llava")), layers=[0, 1])
    with pytest.raises(InputError, match="keep_logits=True"):
        found.logits(0)
    with pytest.raises(HookPointError, match=r"layer 3 was not read: there are blocks.0.hook_resid_post"):
        found.top(layer=3)
    with pytest.raises(HookPointError, match="layer -1 was not read"):
        found.top()
    with pytest.raises(HookPointError, match="no layer 9: this model has 4 layers"):
        found.top(layer=9)
    with pytest.raises(HookPointError, match="no token of prompt 8 was read: there are prompts 0, 1, 2"):
        found.top(prompt=8, layer=0)
    with pytest.raises(HookPointError, match="position 0 of prompt 1 was not read"):
        found.top(prompt=1, layer=0, position=0)


def test_every_family_with_images_is_read_at_image_tokens():
    for family in VISION:
        model = model_of(family)
        inputs = inputs_of(model, kind="image")
        found = logit_lens(model, inputs, layers=0, positions="image", k=1)
        assert len(found.places.prompt) == int(inputs.mask("image").sum())
