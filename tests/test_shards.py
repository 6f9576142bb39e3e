"""Folders of blocks: a run that stops anywhere goes on from its last whole block."""

import errno
import json
import multiprocessing
import os
import random
import time

import pytest
import torch

from cmrm_interp.errors import InputError, MismatchError, StoreError
from cmrm_interp.shards import Shards

HEADER = {"kind": "activations", "model": "tiny", "hooks": ("a", "b")}


def block(start: int, rows: int) -> dict[str, torch.Tensor]:
    ids = torch.arange(start, start + rows)
    return {"x": ids[:, None] * torch.ones(3), "ids": ids}


@pytest.fixture
def folder(tmp_path):
    shards = Shards(tmp_path / "run", HEADER)
    shards.append(block(0, 4), rows=4)
    shards.append(block(4, 2), rows=2)
    return tmp_path / "run"


def test_rows_come_back_in_order(folder):
    shards = Shards(folder)
    assert shards.done == 6
    assert [len(tensors["ids"]) for tensors in shards] == [4, 2]
    assert torch.equal(shards.read()["ids"], torch.arange(6))
    assert torch.equal(shards.read()["x"], block(0, 6)["x"])


def test_a_run_goes_on(folder):
    shards = Shards(folder, HEADER)
    shards.append(block(shards.done, 3), rows=3)
    assert torch.equal(Shards(folder, HEADER).read()["ids"], torch.arange(9))


def test_another_header_is_refused_by_its_field(folder):
    with pytest.raises(MismatchError, match="begun with model='tiny', not 'large'"):
        Shards(folder, {**HEADER, "model": "large"})
    with pytest.raises(MismatchError, match="begun with seed=None, not 1"):
        Shards(folder, {**HEADER, "seed": 1})
    assert Shards(folder, HEADER).done == 6


def test_a_block_without_manifest_entry_does_not_count(folder, monkeypatch):
    def fail(*args):
        raise StoreError("disk full")

    monkeypatch.setattr(Shards, "_write_manifest", fail)
    shards = Shards(folder, HEADER)
    with pytest.raises(StoreError):
        shards.append(block(100, 5), rows=5)
    assert shards.done == 6
    monkeypatch.undo()
    again = Shards(folder, HEADER)
    again.append(block(6, 1), rows=1)
    assert torch.equal(Shards(folder).read()["ids"], torch.arange(7))


def test_a_full_disk_leaves_earlier_blocks(folder, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shards = Shards(folder, HEADER)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        shards.append(block(6, 2), rows=2)
    monkeypatch.undo()
    assert torch.equal(Shards(folder).read()["ids"], torch.arange(6))
    assert len(list(folder.iterdir())) == 3


def test_missing_and_shortened_blocks_are_named(folder):
    path = folder / "000001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"000001\.safetensors is missing or not of \d+ bytes"):
        Shards(folder, HEADER)
    path.unlink()
    with pytest.raises(StoreError, match=r"000001\.safetensors is missing"):
        Shards(folder)


def test_swapped_blocks_are_noticed(tmp_path):
    shards = Shards(tmp_path, HEADER)
    shards.append(block(0, 2), rows=2)
    shards.append(block(2, 2), rows=2)
    (tmp_path / "000000.safetensors").replace(tmp_path / "aside")
    (tmp_path / "000001.safetensors").replace(tmp_path / "000000.safetensors")
    (tmp_path / "aside").replace(tmp_path / "000001.safetensors")
    with pytest.raises(StoreError, match="is not what the manifest says"):
        Shards(tmp_path).read()


def test_rows_and_names_must_fit(folder):
    shards = Shards(folder, HEADER)
    with pytest.raises(InputError, match=r"x has shape \(2, 3\): its first axis must be the 3 rows"):
        shards.append(block(6, 2), rows=3)
    with pytest.raises(MismatchError, match=r"holds \['ids', 'x'\], not \['x'\]"):
        shards.append({"x": torch.zeros(1, 3)}, rows=1)
    assert Shards(folder).done == 6


def test_blocks_of_other_widths_can_only_be_iterated(tmp_path):
    shards = Shards(tmp_path, HEADER)
    shards.append({"x": torch.zeros(2, 5)}, rows=2)
    shards.append({"x": torch.zeros(2, 7)}, rows=2)
    assert [tensors["x"].shape[1] for tensors in shards] == [5, 7]
    with pytest.raises(MismatchError, match="iterate over the blocks"):
        shards.read()


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(StoreError, match="nothing captured"):
        Shards(tmp_path)
    with pytest.raises(StoreError, match="holds no rows yet"):
        Shards(tmp_path, HEADER).read()
    with pytest.raises(InputError, match="no 'kind'"):
        Shards(tmp_path / "new", {"model": "tiny"})


@pytest.mark.parametrize("text", ["", "[]", '{"cmrm_interp": 1}', '{"cmrm_interp": 1, "header": {}, "shards": [1]}'])
def test_a_corrupt_manifest_is_refused(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match="is corrupt"):
        Shards(folder, HEADER)


def test_a_later_format_is_refused(folder):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cmrm_interp": 2}))
    with pytest.raises(StoreError, match="format version 2"):
        Shards(folder, HEADER)


def keep_appending(folder, pipe):
    torch.set_num_threads(1)  # a forked child has no OpenMP workers
    shards = Shards(folder, {"kind": "activations"})
    while True:
        ids = torch.arange(shards.done, shards.done + 5)
        shards.append({"ids": ids, "x": ids[:, None].expand(5, 20_000).float()}, rows=5)
        pipe.send(shards.done)


def test_killed_again_and_again_it_goes_on(tmp_path):
    chance, before, fork = random.Random(3), 0, multiprocessing.get_context("fork")
    for _ in range(12):
        receiver, sender = fork.Pipe(duplex=False)
        writer = fork.Process(target=keep_appending, args=(tmp_path, sender))
        writer.start()
        receiver.recv()
        time.sleep(chance.uniform(0.0, 0.03))
        writer.kill()
        writer.join()
        shards = Shards(tmp_path, {"kind": "activations"})
        assert shards.done > before
        assert torch.equal(shards.read()["ids"], torch.arange(shards.done))
        assert not list(tmp_path.glob(".*"))
        before = shards.done
