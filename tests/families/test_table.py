"""The page of the families is that of the registry."""

from pathlib import Path

from cmrm_interp.families import TINY, families, family_of, tiny
from cmrm_interp.families.table import markdown

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


def test_the_page_is_made_from_the_registry():
    assert PAGE.read_text(encoding="utf-8") == markdown(), "make it anew: cmrm families --markdown > docs/families.md"


def test_every_family_is_on_the_page_and_has_a_tiny_model():
    page = PAGE.read_text(encoding="utf-8")
    shown = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")}
    assert {family.name for family in families()} <= shown
    assert {family_of(tiny(name)[0].config).name for name in TINY} == {family.name for family in families()}


def test_what_a_row_says():
    rows = {line.split("|")[1].strip(): line for line in markdown().splitlines() if line.startswith("| ")}
    assert "no `blocks.{i}.hook_resid_mid`" in rows["aya_vision"]
    assert "`blocks.{i}.cross_attn.hook_pattern`" in rows["mllama"]
    assert "`qformer.blocks.{i}.hook_cross_attn_out`" in rows["instructblip"]
    assert "`blocks.{i}.mlp.hook_router`" in rows["mixture"]
    assert "https://huggingface.co/llava-hf/llava-1.5-7b-hf" in rows["llava"]
