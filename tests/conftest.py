"""What every test shares, and one line at the end that tells line and branch coverage apart."""

import json
from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    """Prints the two shares of the JSON report that `make test` asks pytest-cov for."""
    reports = config.getoption("cov_report", None) or {}
    path = Path(config.rootpath, "coverage.json")
    if "json" not in reports or not path.exists():
        return
    totals = json.loads(path.read_text())["totals"]
    lines = _percent(totals, "covered_lines", "num_statements")
    branches = _percent(totals, "covered_branches", "num_branches")
    terminalreporter.write_line(f"coverage: lines {lines:.1f} %, branches {branches:.1f} %")


def _percent(totals: dict, part: str, whole: str) -> float:
    return 100 * totals.get(part, 0) / max(totals.get(whole, 0), 1)
