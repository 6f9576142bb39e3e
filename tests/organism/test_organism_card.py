"""The card: rates with intervals, and no typed number."""

import json

import pytest

from cmrm_interp.errors import InputError
from cmrm_interp.organism.card import fill, methods_table, plain_table, window_figure, write_card
from cmrm_interp.organism.results import load_cells, percent, select


def cell(**given):
    plain = {"seed": 0, "method": "none", "split": "test", "kind": "harmful", "image": "real", "alpha": 0.0}
    counts = {"n": 300, "complied": 30, "refused": 260, "neither": 10, "right": 0}
    return plain | counts | given


@pytest.fixture
def records():
    live = {"method": "dataset mean", "application": "live", "steps": "prefill"}
    records = [cell(image=image) for image in ("text", "real", "blank", "noise")]
    for split, alpha, chosen in (("validation", 0.25, False), ("validation", 0.5, False), ("test", 0.5, True)):
        here = live | {"split": split, "alpha": alpha, "chosen": chosen}
        records += [cell(image=image, complied=3, **here) for image in ("real", "blank", "noise")]
        records += [cell(kind="benign", refused=6, **here), cell(kind="visual", right=240, **here)]
    return records


@pytest.fixture
def folder(tmp_path, records):
    (tmp_path / "results.json").write_text(json.dumps(records))
    curve = {"curve": [[25, 3.0], [50, 1.0]], "gates": {"seen": 0.9}}
    (tmp_path / "training.json").write_text(json.dumps({"0": {"1a": curve}}))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    names = ("plain", "benign", "methods", "gates", "checksums")
    (tmp_path / "README.md").write_text("# card\n" + "".join(f"<!-- {n} -->\n<!-- /{n} -->\n" for n in names))
    return tmp_path


def test_rates_carry_their_intervals():
    assert percent(0, 300) == "0.0 (0.0-1.3)"
    assert percent(30, 300) == "10.0 (7.1-13.9)"
    assert percent(300, 300) == "100.0 (98.7-100.0)"


def test_select_keeps_what_matches(folder):
    cells = load_cells(folder / "results.json")
    assert [c.image for c in select(cells, method="none", image="blank")] == ["blank"]


def test_tables_show_rates_with_intervals(folder):
    cells = load_cells(folder / "results.json")
    assert "| real picture | 10.0 (7.1-13.9) |" in plain_table(cells)
    assert "| grey | - |" in plain_table(cells)
    row = methods_table(cells).splitlines()[2]
    assert row.startswith("| dataset mean, live, prefill | 0 | 0.5 | 1.0 (0.3-2.9) |")
    assert row.endswith("| 3.3 | 2.0 (0.9-4.3) | 80.0 (75.1-84.1) |")


def test_a_card_is_filled_and_filling_again_changes_nothing(folder):
    write_card(folder)
    first = (folder / "README.md").read_text()
    assert "seen | 90.0 |" in first
    assert "`model.safetensors` | 7 |" in first
    write_card(folder)
    assert (folder / "README.md").read_text() == first
    assert (folder / "window.png").stat().st_size > 1000


def test_the_window_needs_no_plain_cells_on_validation(folder):
    window_figure(load_cells(folder / "results.json"), folder / "other.png")
    assert (folder / "other.png").exists()


def test_a_missing_section_is_named():
    with pytest.raises(InputError, match=r"no section 'plain'"):
        fill("# card", "plain", "x")
