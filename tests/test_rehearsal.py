"""The rehearsal: its table is whole and its calls agree, on a tiny shape; the real shapes have the real sizes."""

import json

import pytest
import torch

from benchmarks import rehearsal
from benchmarks.shapes import SHAPES, WORDS
from benchmarks.weights import build, layers_that_fit, parameters
from tests.support import network, picture

ROWS = [
    rehearsal.BUILD,
    rehearsal.LOAD,
    rehearsal.CHECK,
    rehearsal.ENCODE,
    rehearsal.HF_IMAGE,
    rehearsal.HF_TEXT,
    rehearsal.LOGITS,
    rehearsal.CAPTURE,
    rehearsal.FIT,
    rehearsal.HF_GENERATE,
    rehearsal.GENERATE,
    rehearsal.DATASET,
    rehearsal.SAMPLE,
    rehearsal.NAIVE,
]
BARE = {
    rehearsal.BUILD,
    rehearsal.LOAD,
    rehearsal.CHECK,
    rehearsal.ENCODE,
    rehearsal.HF_IMAGE,
    rehearsal.HF_TEXT,
    rehearsal.HF_GENERATE,
}
GIB = 2**30


@pytest.fixture(scope="module", params=["llava", "qwen2_vl"])
def found(request):
    settings = rehearsal.Settings(shape="tiny", prompts=3, new_tokens=3, repeats=2)
    return rehearsal.rehearse(settings, network(request.param, eager=False))


def test_the_table_has_every_row(found):
    assert list(found.table.index) == ROWS
    assert (found.table[["median s", "peak GiB"]] > 0).all(axis=None)
    assert set(found.table.index[found.table["ratio"].isna()]) == BARE


def test_package_and_plain_calls_agree(found):
    checks = dict(found.checks)
    gap = checks.pop("sample-level shift, prefix cache against none, relative difference")
    assert gap < 1e-3
    assert all(checks.values()), checks


def test_text_and_json_hold_the_rows(found):
    text, stored = rehearsal.show(found), json.loads(found.to_json())
    assert all(row in text for row in ROWS)
    assert [row["call"] for row in stored["rows"]] == ROWS
    assert stored["settings"]["shape"] == "tiny"
    assert stored["provenance"]["weights_hash"] == found.provenance.weights_hash


@pytest.mark.parametrize(
    ("name", "total", "layers"),
    [("llava-1.5-7b", 7_063_427_072, 32), ("llava-1.5-13b", 13_351_494_656, 40), ("qwen2-vl-7b", 8_291_375_616, 28)],
)
def test_shapes_have_the_checkpoints_sizes(name, total, layers):
    rest, block, n = parameters(SHAPES[name])
    assert n == layers
    assert rest + n * block == total


@pytest.mark.parametrize("name", SHAPES)
def test_a_picture_is_576_tokens(name):
    shape = SHAPES[name]
    config, processor = shape.config(1), shape.processor()
    content = [{"type": "image"}, {"type": "text", "text": " ".join(WORDS)}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    encoded = processor(text=[text], images=[picture(size=shape.picture)], return_tensors="pt")
    ids = encoded["input_ids"][0]
    assert int((ids == config.image_token_id).sum()) == 576
    assert processor.tokenizer.unk_token_id not in ids.tolist()
    assert len(processor.tokenizer) == config.get_text_config().vocab_size


def test_weights_are_made_in_their_own_dtype():
    hf, _ = network("llava")
    shape = rehearsal.SHAPES["llava-1.5-7b"]
    small = type(shape)("small", "-", type(hf), lambda layers: hf.config, shape.processor)
    made = build(small, None, torch.device("cpu"), torch.bfloat16)
    assert {parameter.dtype for parameter in made.parameters()} == {torch.bfloat16}
    assert not any(tensor.is_meta for tensor in [*made.parameters(), *made.buffers()])
    for name, buffer in hf.named_buffers():
        torch.testing.assert_close(made.get_buffer(name), buffer)
    again = build(small, None, torch.device("cpu"), torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))


def test_layers_are_chosen_by_free_memory():
    shape, dtype = SHAPES["llava-1.5-7b"], torch.bfloat16
    assert layers_that_fit(shape, dtype, 80 * GIB) == 32
    assert 0 < layers_that_fit(shape, dtype, 8 * GIB) < 32
    with pytest.raises(MemoryError, match=r"with one layer needs 2\.5 GiB free"):
        layers_that_fit(shape, dtype, GIB)


def test_the_command_writes_what_it_found(monkeypatch, tmp_path, capsys):
    parts = network("llava", eager=False)
    whole = rehearsal.rehearse
    monkeypatch.setattr(rehearsal, "rehearse", lambda settings: whole(settings, parts))
    path = tmp_path / "new" / "out.json"
    rehearsal.main(["--device", "cpu", "--prompts", "1", "--new-tokens", "2", "--repeats", "1", "--out", str(path)])
    assert rehearsal.DATASET in capsys.readouterr().out
    assert json.loads(path.read_text())["settings"]["new_tokens"] == 2
    with pytest.raises(SystemExit):
        rehearsal.main(["--layers", "0"])
    assert "--layers 0: give at least 1" in capsys.readouterr().err
