"""Records: files that survive a crash, tables, and rows that refuse nonsense."""

import math

import pytest

from cmrm_interp import records
from cmrm_interp.errors import InputError, StoreError
from cmrm_interp.records import Provenance, Record

PROVENANCE = Provenance(model="tiny", revision="main", weights_hash="abc", seed=3)


@pytest.fixture
def rows():
    first = records.rate({"defence": "none", "image": "blank"}, "unsafe", 61, 100, PROVENANCE)
    second = records.mean({"defence": "CMRM", "alpha": 1.0}, "norm", [1.0, 2.0, 4.0], PROVENANCE)
    return [first, second]


def test_records_come_back_as_they_were(rows, tmp_path):
    path = tmp_path / "runs" / "records.jsonl"
    records.append(path, rows[:1])
    records.append(path, rows[1:])
    assert records.read(path) == rows


def test_a_cut_last_line_is_left_out_with_a_warning(rows, tmp_path):
    path = tmp_path / "records.jsonl"
    records.append(path, rows)
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for size in (len(data) - 1, len(data) - 20, first + 1):
        path.write_bytes(data[:size])
        with pytest.warns(UserWarning, match="the last line is cut off"):
            assert records.read(path) == rows[:1]


def test_appending_after_a_cut_line_mends_the_file(rows, tmp_path, recwarn):
    path = tmp_path / "records.jsonl"
    records.append(path, rows)
    path.write_bytes(path.read_bytes()[:-15])
    records.append(path, rows[1:])
    assert records.read(path) == rows
    assert not recwarn.list


@pytest.mark.parametrize("line", ["{", "{}", "3", '{"condition": {}, "metric": "x", "provenance": {}}'])
def test_a_damaged_line_elsewhere_is_an_error(rows, tmp_path, line):
    path = tmp_path / "records.jsonl"
    records.append(path, rows[:1])
    path.write_text(path.read_text() + line + "\n")
    records.append(path, rows[1:])
    with pytest.raises(StoreError, match=r"records\.jsonl, line 2 is no record"):
        records.read(path)


def test_what_cannot_be_read_or_written_is_named(rows, tmp_path):
    with pytest.raises(StoreError, match=r"none\.jsonl does not exist"):
        records.read(tmp_path / "none.jsonl")
    with pytest.raises(StoreError, match="was not written"):
        records.append(tmp_path, rows)


def test_a_record_refuses_what_is_no_number():
    with pytest.raises(InputError, match="unsafe: value is nan"):
        Record({}, "unsafe", math.nan, 3)
    with pytest.raises(InputError, match="high is inf"):
        Record({}, "unsafe", 0.5, 3, 0.1, math.inf)


def test_a_condition_may_not_hide_a_field():
    with pytest.raises(InputError, match=r"may not be named \['model', 'value'\]"):
        Record({"model": "x", "value": 1, "image": "y"}, "unsafe", 0.5, 3)


def test_a_table_has_the_conditions_first(rows):
    frame = records.to_frame(rows)
    assert list(frame) == ["defence", "image", "alpha", "metric", "value", "low", "high", "n"]
    assert frame["value"].tolist() == pytest.approx([0.61, 7 / 3])
    assert records.to_frame(rows, provenance=True)["model"].tolist() == ["tiny", "tiny"]
    assert len(records.to_frame([])) == 0
