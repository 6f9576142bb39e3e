"""The how-to runs as it stands."""

import re
from pathlib import Path

from cmrm_interp.recipes import RECIPES

PAGE = Path(__file__).parents[2] / "docs" / "add-a-recipe.md"


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(code) == 4
    names = {"__name__": "the_page"}
    try:
        for part in code:
            exec(compile(part, str(PAGE), "exec"), names)
        table = names["found"].table()
    finally:
        RECIPES.pop("towards-refusal", None)
    assert list(table.index.get_level_values("defence")) == ["no defence", "Towards refusal"]
    assert table.loc[("organism", "Towards refusal"), "not run"] == ""
    assert table.loc[("organism", "Towards refusal"), "chosen"].startswith("alpha ")
    assert "Towards refusal" in capsys.readouterr().out
    assert "towards-refusal" in PAGE.read_text()
