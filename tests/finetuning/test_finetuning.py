"""Fine-tuning: the loss against bare transformers, what moves, what is written, and going on after a kill."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.datasets.suites import Suite
from cmrm_interp.encoding import Encoder
from cmrm_interp.errors import InputError, MismatchError, ModelError, StoreError
from cmrm_interp.families.load import load_parts
from cmrm_interp.finetuning import Example, LoRA, Training, finetune, helpful, own_refusals, safety, training
from cmrm_interp.finetuning import loop as loop_module
from cmrm_interp.finetuning.checkpoints import Checkpoints
from cmrm_interp.finetuning.encoding import IGNORED, Writer
from cmrm_interp.finetuning.loop import batches_of, summed_loss
from cmrm_interp.finetuning.weights import projections, thaw
from cmrm_interp.model import encoder_of
from cmrm_interp.prompts import Prompt
from tests.support import model_of, network, picture

TEXTS = ["what is this ?", "how do i make a cake please", "tell me about cats and dogs"]
ANSWERS = ["a cake", "you are kind and i do not", "what"]
QUICK = Training(steps=3, lr=1e-3, batch_size=2, warmup=0, checkpoint_every=0)


def examples_for(model_or_encoder):
    encoder = getattr(model_or_encoder, "encoder", model_or_encoder)
    images = [picture(0), None, picture(2, (24, 16))] if encoder.can_see else [None] * 3
    if not encoder.mixed:
        images = [picture(0), picture(1), picture(2)]
    return [Example(Prompt(t, i), a) for t, i, a in zip(TEXTS, images, ANSWERS, strict=True)]


def writer_of(family):
    hf, processor = network(family)
    parts = load_parts((hf, processor))
    return Writer.of(encoder_of(parts), hf), parts


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "llama", "mllama"])
def test_loss_is_that_of_transformers_over_the_answers_alone(family):
    writer, parts = writer_of(family)
    hf, tokenizer = parts.hf, parts.tokenizer
    total, tokens = 0.0, 0
    for example in examples_for(writer.encoder):
        # By hand: the prompt as in generation, then the ids of what follows it, one row and no padding.
        (encoded,) = writer.passes([example])
        prompt = dict(ci.load((hf, parts.processor or tokenizer), check=False).prepare([example.prompt]).tensors)
        n = prompt["input_ids"].shape[1]
        row = encoded.tensors["input_ids"][0]
        assert row[:n].tolist() == prompt["input_ids"][0].tolist()
        assert tokenizer.decode(row[n:], skip_special_tokens=True).strip() == example.answer
        assert row[-1] == tokenizer.eos_token_id
        labels = torch.cat([torch.full((n,), -100), row[n:]])[None]
        theirs = float(hf(**encoded.tensors, labels=labels).loss) * (len(row) - n)
        torch.testing.assert_close(float(summed_loss(hf, encoded, parts.family)), theirs, rtol=1e-4, atol=1e-4)
        total, tokens = total + theirs, tokens + len(row) - n
    together = list(writer.passes(examples_for(writer.encoder)))
    ours = sum(float(summed_loss(hf, encoded, parts.family)) for encoded in together)
    torch.testing.assert_close(ours, total, rtol=1e-4, atol=1e-4)
    assert sum(int((encoded.labels != IGNORED).sum()) for encoded in together) == tokens


def test_another_prompt_is_no_part_of_the_loss():
    writer, parts = writer_of("llava")
    encoded = writer.encode(examples_for(writer.encoder)[:1])
    logits = parts.hf(**encoded.tensors).logits.detach()
    n = int((encoded.labels == IGNORED).sum())
    by_hand = -logits[0].log_softmax(-1)[torch.arange(n - 1, logits.shape[1] - 1), encoded.tensors["input_ids"][0, n:]]
    torch.testing.assert_close(summed_loss(parts.hf, encoded, parts.family), by_hand.sum(), rtol=1e-5, atol=1e-5)


def test_a_step_weighs_tokens_and_not_passes(monkeypatch):
    """Two passes of one and of two examples have the gradients of one pass of three."""
    grads = []
    for passes in ((3,), (1, 2)):
        writer, parts = writer_of("llava")
        thaw(parts.hf, parts.family, ("projector",))
        given, parts_of = examples_for(writer.encoder), []
        for size in passes:
            parts_of.append(writer.encode(given[:size]))
            given = given[size:]
        loss = loop_module._step(parts.hf, parts_of, parts.family)
        grads.append((loss, [w.grad.clone() for w in parts.hf.parameters() if w.grad is not None]))
    torch.testing.assert_close(grads[0][0], grads[1][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grads[0][1], grads[1][1], rtol=1e-3, atol=1e-5)


def test_every_example_comes_once_an_epoch():
    examples = [Example(Prompt(str(row)), "a") for row in range(5)]
    settings = replace(QUICK, batch_size=2, accumulate=1)
    seen = [e.prompt.text for step in range(5) for batch in batches_of(examples, settings, step) for e in batch]
    assert sorted(seen[:5]) == sorted(seen[5:]) == list("01234")
    assert seen[:5] != seen[5:]


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_what_is_frozen_stays_and_the_rest_moves(family, tmp_path):
    hf, processor = network(family)
    before = {name: tensor.clone() for name, tensor in hf.state_dict().items()}
    folder = finetune((hf, processor), examples_for(model_of(family)), tmp_path / "new", QUICK, progress=False)
    for name, tensor in hf.state_dict().items():
        assert torch.equal(tensor, before[name]), "the network that was given is changed"
    after = ci.load(folder, check=False).hf.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    tower, projector = {"llava": ("vision_tower", "multi_modal_projector"), "qwen2_vl": ("visual", "merger")}[family]
    assert not [name for name in moved if tower in name and projector not in name]
    assert any(projector in name for name in moved)
    assert any("language_model.layers.0" in name for name in moved)


def test_only_the_asked_parts_move(tmp_path):
    given = network("llava")
    settings = replace(QUICK, trains=("projector",))
    after = ci.load(finetune(given, examples_for(model_of("llava")), tmp_path / "new", settings, progress=False)).hf
    moved = [n for n, t in given[0].state_dict().items() if not torch.equal(t, after.state_dict()[n])]
    assert moved
    assert all("multi_modal_projector" in name for name in moved)


def test_the_folder_answers_what_was_learned(tmp_path):
    model, examples = model_of("llava"), examples_for(model_of("llava"))
    settings = Training(steps=60, lr=1e-2, batch_size=3, warmup=5, checkpoint_every=0)
    folder = finetune(model, examples, tmp_path / "new", settings, progress=False)
    new = ci.load(folder)
    said = new.generate(
        new.prepare([example.prompt for example in examples]),
        max_new_tokens=12,
        eos_token_id=new.tokenizer.eos_token_id,
    )
    assert [text.strip() for text in said] == ANSWERS
    told = json.loads((folder / "finetuning.json").read_text())
    assert told["fingerprint"] == new.fingerprint != model.fingerprint == told["source_fingerprint"]
    assert len(told["curve"]) == 60
    assert told["curve"][-1][1] < 0.1 < told["curve"][0][1]
    assert (told["examples"], told["with_image"]) == (3, 2)
    assert not (tmp_path / "new.unfinished").exists()


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    given, examples = network("llava"), examples_for(model_of("llava"))
    settings = replace(QUICK, steps=5, checkpoint_every=2, lora=LoRA(2, dropout=0.3), lr=1e-2)
    straight = finetune(given, examples, tmp_path / "straight", settings, progress=False)
    step, done = loop_module._step, []

    def killed(*arguments):
        done.append(1)
        if len(done) == 4:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(loop_module, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune(given, examples, tmp_path / "killed", settings, progress=False)
    assert not (tmp_path / "killed").exists()
    resumed = finetune(given, examples, tmp_path / "killed", settings, progress=False)
    # Steps 3, 4 and 5 again, behind the checkpoint of step 2.
    assert len(done) == 4 + 3
    a, b = (ci.load(folder, check=False).hf.state_dict() for folder in (straight, resumed))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert (straight / "finetuning.json").read_text().count("[") == (resumed / "finetuning.json").read_text().count("[")


def test_weights_that_no_example_reached_are_kept_too(tmp_path):
    """Text first and a picture later: the projector has fewer steps than the rest, and goes on with its own."""

    def made():
        pair = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
        return pair, torch.optim.AdamW(pair, lr=0.1, weight_decay=0.0)

    def steps(pair, optimizer, reached):
        for both in reached:
            sum((weight**2).sum() for weight in pair[: 1 + both]).backward()
            optimizer.step()
            optimizer.zero_grad()

    straight, optimizer = made()
    steps(straight, optimizer, (False, False, True, True))
    for cut in (1, 3):
        pair, optimizer = made()
        kept = Checkpoints(tmp_path / str(cut), "run", ["decoder", "projector"])
        steps(pair, optimizer, (False, False, True, True)[:cut])
        kept.write(optimizer, cut, [0.5] * cut)
        pair, optimizer = made()
        assert len(kept.resume(optimizer)) == cut
        steps(pair, optimizer, (False, False, True, True)[cut:])
        assert all(torch.equal(a, b) for a, b in zip(pair, straight, strict=True))


def test_other_images_and_systems_are_another_run():
    one = [Example(Prompt("what", picture(0)), "a")]
    marks = {
        training._run("model", examples, QUICK)
        for examples in (
            one,
            [Example(Prompt("what", picture(1)), "a")],
            [Example(Prompt("what", "a/cat.png"), "a")],
            [Example(Prompt("what", "a/dog.png"), "a")],
            [Example(Prompt("what", picture(0), "be kind"), "a")],
            [Example(Prompt("what", picture(0), history=[("user", "hi"), ("assistant", "hi")]), "a")],
        )
    }
    assert len(marks) == 6
    assert training._run("model", [Example(Prompt("what", picture(0)), "a")], QUICK) in marks
    # A folder that was moved is the same run.
    assert training._run("model", [Example(Prompt("what", "b/cat.png"), "a")], QUICK) in marks


def test_another_run_does_not_go_on_with_a_checkpoint(tmp_path):
    (tmp_path / "new.unfinished").mkdir()
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    Checkpoints(tmp_path / "new.unfinished", "another", ["weight"]).write(optimizer, 1, [0.5])
    with pytest.raises(MismatchError, match=r"holds the checkpoint of another fine-tuning .* delete it to begin anew"):
        finetune(network("llava"), examples_for(model_of("llava")), tmp_path / "new", QUICK, progress=False)


def test_adapters_leave_the_base_alone_and_are_merged(tmp_path, monkeypatch):
    given, examples = network("llava"), examples_for(model_of("llava"))
    held = {}
    fit = loop_module.fit

    def watched(peft, writer, *rest):
        curve = fit(peft, writer, *rest)
        encoded = writer.encode(examples)
        state = peft.state_dict()
        held["base"] = {n: t.clone() for n, t in state.items() if "lora_" not in n}
        held["moves"] = {n for n, w in peft.named_parameters() if w.requires_grad}
        held["logits"], held["tensors"] = peft(**encoded.tensors).logits.detach(), encoded.tensors
        return curve

    monkeypatch.setattr("cmrm_interp.finetuning.training.fit", watched)
    settings = replace(QUICK, lora=LoRA(rank=2, dropout=0.0), lr=1e-2)
    folder = finetune(given, examples, tmp_path / "new", settings, progress=False)
    assert all("lora_" in name for name in held["moves"])
    before = given[0].state_dict()
    for name, tensor in held["base"].items():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        assert torch.equal(tensor, before[plain]), plain
    merged = ci.load(folder, check=False).hf
    torch.testing.assert_close(merged(**held["tensors"]).logits, held["logits"], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(given[0](**held["tensors"]).logits, held["logits"], atol=1e-3)


def test_adapters_go_to_the_decoders_projections():
    for family, wanted in (("llava", 7), ("llama", 7), ("gpt2", 4)):
        hf, processor = network(family)
        parts = load_parts((hf, processor))
        found = projections(hf, parts.family)
        layers = hf.config.get_text_config().num_hidden_layers
        assert len(found) == wanted * layers, found
        assert not [name for name in found if "vision" in name or "lm_head" in name]
    with pytest.raises(InputError, match="no linear module zorp_proj: there are"):
        projections(hf, parts.family, ("zorp_proj",))


def test_answers_end_as_the_template_ends_them():
    for family in ("llava", "qwen2_vl"):
        writer, parts = writer_of(family)
        text = writer.answer(Example(Prompt(TEXTS[0]), "  a cake "))
        assert text.strip().startswith("a cake")
        assert text.endswith(parts.tokenizer.eos_token)
        assert text.count(parts.tokenizer.eos_token) == 1


TURNS = "{% for turn in messages %}BODY{% endfor %}{% if add_generation_prompt %}ASK{% endif %}"


@pytest.mark.parametrize(
    ("body", "ask", "written"),
    [
        ("{{ turn.role.upper() }}: {{ turn.content[0].text }} ", "ASSISTANT:", " fine</s>"),
        ("<{{ turn.role }}>{{ turn.content[0].text }}<e>\n", "<assistant>", "fine<e>"),
        (
            "<{{ turn.role }}>{{ '~~' if turn.role == 'assistant' }}{{ turn.content[0].text }}<e>",
            "<assistant>",
            "~~fine<e>",
        ),
        ("<{{ turn.role }}>{{ loop.length }}{{ turn.content[0].text }}<e>", "<assistant>", "fine</s>"),
        ("<{{ turn.role }}>{{ turn.content[0].text.upper() }}<e>", "<assistant>", "fine</s>"),
    ],
    ids=["no end", "end", "lead", "prompt told otherwise", "answer told otherwise"],
)
def test_what_follows_a_prompt_is_what_the_template_writes(body, ask, written):
    tokenizer = deepcopy(model_of("llava").tokenizer)
    tokenizer.chat_template = TURNS.replace("BODY", body).replace("ASK", ask)
    encoder = Encoder(model_of("llava").family, None, tokenizer, None, frozenset())
    assert Writer(encoder, ("</s>", "<e>")).answer(Example(Prompt("hi"), "fine ")) == written


def test_an_answer_that_runs_into_the_prompt_is_refused():
    class Joining:
        bos_token = None

        def __call__(self, text, **how):
            return {"input_ids": [ord(sign) for sign in text.replace("\n\n", "~")]}

    encoder = Encoder(model_of("llava").family, None, Joining(), None, frozenset())
    writer = Writer(encoder, ("</s>",))
    assert writer._answer_ids("hi\n", "hi\nyes") == [ord(sign) for sign in "yes"]
    with pytest.raises(InputError, match="cannot be learned: its first characters and the prompt's last ones are one"):
        writer._answer_ids("hi\n", "hi\n\nyes")


def test_a_processor_that_writes_behind_answers_is_refused(monkeypatch):
    writer, _ = writer_of("llava")
    encode = Encoder.encode_texts

    def behind(self, texts, *rest):
        return encode(self, [f"{text} cake" for text in texts], *rest)

    monkeypatch.setattr(Encoder, "encode_texts", behind)
    with pytest.raises(ModelError, match="writes tokens of its own behind an answer"):
        writer.encode(examples_for(writer.encoder))


def suite(kind, answers=None, name="mine"):
    return Suite(name, kind, tuple(Prompt(text) for text in TEXTS), answers)


def test_harmful_prompts_are_refused_and_others_answered():
    found = safety([suite("harmful", tuple(ANSWERS)), suite("benign", tuple(ANSWERS))], "no .")
    assert [example.answer for example in found] == ["no ."] * 3 + ANSWERS
    assert [example.prompt.text for example in found] == TEXTS * 2
    assert [example.answer for example in helpful([suite("questions", tuple(ANSWERS))])] == ANSWERS


def test_data_that_cannot_be_learned_is_refused():
    with pytest.raises(InputError, match=r"'mine' is harmful, and no refusal is given .* \(--refusal\)"):
        safety([suite("harmful")])
    with pytest.raises(InputError, match="'mine' is harmful, and its answers would be learned as they are"):
        helpful([suite("harmful", tuple(ANSWERS))])
    with pytest.raises(InputError, match="'mine' has no answers to learn"):
        safety([suite("benign")], "no .")
    with pytest.raises(InputError, match=r"1 of the 3 prompts of 'mine' have no answer \(2, ...\)"):
        helpful([suite("benign", ("a", " ", "b"))])


def test_the_models_own_refusals_are_those_to_text_alone():
    model = model_of("llava")
    shown = replace(suite("harmful"), prompts=tuple(Prompt(text, picture(0)) for text in TEXTS))
    said = model.generate(model.prepare(TEXTS), max_new_tokens=4)
    found = own_refusals(model, [shown], lambda answer: answer == said[1], 4)
    assert [(e.prompt, e.answer) for e in found if e.prompt.text == TEXTS[1]] == [(shown.prompts[1], said[1])]
    with pytest.raises(InputError, match=r"refuses none of 3 harmful prompts as text alone.*\(--refusal\)"):
        own_refusals(model, [shown], lambda answer: False, 4)
    with pytest.raises(InputError, match="is benign: refusals are learned of harmful ones alone"):
        own_refusals(model, [suite("benign")], lambda answer: True, 4)


def test_what_cannot_be_trained_is_refused(tmp_path, monkeypatch):
    given, examples = network("llava"), examples_for(model_of("llava"))
    with pytest.raises(InputError, match="no examples to learn from"):
        finetune(given, [], tmp_path / "new", QUICK)
    with pytest.raises(InputError, match=r"1 of 3 examples have no answer \(the first is number 1\)"):
        finetune(given, [examples[0], replace(examples[1], answer=" "), examples[2]], tmp_path / "new", QUICK)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(StoreError, match="full is there already: give a new folder for the fine-tuned checkpoint"):
        finetune(given, examples, tmp_path / "full", QUICK)
    with pytest.raises(ModelError, match="loaded without a tokenizer: fine-tuning needs one"):
        finetune((given[0], None), examples, tmp_path / "new", QUICK)
    monkeypatch.setattr("cmrm_interp.finetuning.weights.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'peft: pip install "cmrm-interp\[finetune\]"'):
        finetune(given, examples, tmp_path / "new", replace(QUICK, lora=LoRA()))


def test_weights_that_are_elsewhere_or_rounded_are_refused(tmp_path):
    hf, processor = network("llava")
    hf.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(ModelError, match="are quantised, and rounded weights cannot take small steps"):
        finetune((hf, processor), examples_for(model_of("llava")), tmp_path / "new", QUICK)
    hf, processor = network("llava")
    with pytest.raises(ModelError, match="are in fp16, in which gradients vanish: load them with dtype=bfloat16"):
        finetune((hf.half(), processor), examples_for(model_of("llava")), tmp_path / "new", QUICK)
    hf, processor = network("llava")
    with pytest.raises(ModelError, match=r"are elsewhere \(remote or offloaded\): load them here to fine-tune"):
        finetune((hf.to("meta"), processor), examples_for(model_of("llava")), tmp_path / "new", QUICK)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    hf, processor = network("llava")
    hf.lm_head.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match="the loss is nan: lower the learning rate, or load the weights in bf16 or"):
        finetune((hf, processor), examples_for(model_of("llava")), tmp_path / "new", QUICK, progress=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps=0: give at least 1"),
        ({"lr": 0.0}, "lr=0.0: it has to be above 0"),
        ({"trains": ()}, "nothing would be trained"),
        ({"trains": ("tower",)}, "no part to train 'tower': use 'decoder', 'embedding', 'projector'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    from tests.support import unchecked

    with unchecked(), pytest.raises(InputError, match=words):
        Training(**settings)


def test_adapters_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match="LoRA of rank 0: give at least 1"):
        LoRA(rank=0)
    with pytest.raises(InputError, match=r"LoRA with dropout 1\.0"):
        LoRA(dropout=1.0)
