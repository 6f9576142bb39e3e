"""Files of tensors: what comes back is what went in, and nothing damaged is ever taken for whole."""

import errno
import multiprocessing
import os
import random
import resource
import time

import pytest
import torch
from safetensors.torch import save_file

from cmrm_interp.errors import InputError, StoreError
from cmrm_interp.store import load, read_header, save, write_whole

HEADER = {"kind": "directions", "model": "tiny", "layers": [0, 1], "alpha": 0.5, "note": None}


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    return {
        "a": base,
        "same memory": base[1:3],
        "strided": base.T,
        "half": torch.randn(3).bfloat16(),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 5),
        "mask": torch.tensor([True, False]),
        "ids": torch.arange(3),
    }


@pytest.fixture
def path(tmp_path, tensors):
    save(tmp_path / "x.safetensors", tensors, HEADER)
    return tmp_path / "x.safetensors"


def test_what_was_saved_comes_back(path, tensors):
    found, header = load(path, kind="directions")
    assert header == HEADER
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_the_header_is_read_alone(path):
    assert read_header(path, kind="directions") == HEADER


def test_loaded_tensors_outlive_a_replaced_file(path, tensors):
    found, _ = load(path)
    save(path, {"a": torch.zeros(4, 6)}, HEADER)
    assert torch.equal(found["a"], tensors["a"])


@pytest.mark.parametrize("read", [load, read_header])
def test_another_kind_is_refused(path, read):
    with pytest.raises(StoreError, match="holds 'directions', not 'activations'"):
        read(path, kind="activations")


@pytest.mark.parametrize("read", [load, read_header])
def test_a_missing_file_and_a_folder_are_refused(tmp_path, read):
    with pytest.raises(StoreError, match=r"nothing\.safetensors does not exist"):
        read(tmp_path / "nothing.safetensors")
    with pytest.raises(StoreError, match="is a folder"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["weights.pt", "pytorch_model.bin", "disguised.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_never_opened(tmp_path, name, zipped):
    torch.save({"a": torch.zeros(2)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    for read in (load, read_header):
        with pytest.raises(StoreError, match="is a pickle"):
            read(tmp_path / name)


def test_plain_safetensors_are_told_apart(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(StoreError, match="plain tensors without a header"):
        load(tmp_path / "plain.safetensors")


def test_a_later_format_is_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors", {"cmrm_interp": "99", "header": "{}"})
    with pytest.raises(StoreError, match="format version 99"):
        load(tmp_path / "x.safetensors")


def test_every_truncation_is_refused(path):
    data = path.read_bytes()
    for size in {0, 1, 7, 8, 9, len(data) - 1, *random.Random(0).sample(range(len(data)), 40)}:
        path.write_bytes(data[:size])
        with pytest.raises(StoreError):
            load(path)


def test_every_flipped_bit_is_noticed(path, tensors):
    data = path.read_bytes()
    for place in random.Random(1).sample(range(len(data) * 8), 400):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(StoreError):
            load(path)


@pytest.mark.parametrize("header", [{"kind": "x", "bad": {1}}, {"kind": "x", "bad": float("nan")}, {"model": "tiny"}])
def test_a_header_that_cannot_be_written_is_refused(tmp_path, header):
    with pytest.raises(InputError, match=r"JSON cannot|no 'kind'"):
        save(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, header)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(path, tensors, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"x\.safetensors was not written \(No space left on device\)"):
        save(path, {"a": torch.zeros(1)}, HEADER)
    monkeypatch.undo()
    assert torch.equal(load(path)[0]["a"], tensors["a"])
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_the_system_cuts_short(path, tensors):
    """The kernel itself refuses in the middle of the file, as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(StoreError, match="was not written"):
            write_whole(path, b"1" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(load(path)[0]["a"], tensors["a"])
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_without_permission_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="was not written"):
        save(tmp_path / "file" / "x.safetensors", {"a": torch.zeros(1)}, HEADER)


def keep_saving(path, pipe):
    torch.set_num_threads(1)  # a forked child has no OpenMP workers
    for number in range(10**6):
        save(path, {"a": torch.full((300_000,), float(number))}, {"kind": "x", "round": number})
        pipe.send(number)


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path, chance, fork = tmp_path / "x.safetensors", random.Random(2), multiprocessing.get_context("fork")
    for _ in range(12):
        receiver, sender = fork.Pipe(duplex=False)
        writer = fork.Process(target=keep_saving, args=(path, sender))
        writer.start()
        receiver.recv()
        time.sleep(chance.uniform(0.0, 0.03))
        writer.kill()
        writer.join()
        tensors, header = load(path, kind="x")
        assert (tensors["a"] == header["round"]).all()


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x0580])
def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path, length):
    path = tmp_path / "vectors.safetensors"
    save(path, {"v": torch.ones(3)}, {"kind": "directions", "note": ""})
    missing = length - int.from_bytes(path.read_bytes()[:8], "little")
    save(path, {"v": torch.ones(3)}, {"kind": "directions", "note": "x" * missing})
    assert path.read_bytes()[:2] == length.to_bytes(2, "little")
    tensors, _ = load(path)
    assert torch.equal(tensors["v"], torch.ones(3))
