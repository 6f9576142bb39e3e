"""What every test shares, and one line at the end that tells line and branch coverage apart."""

import json
import os
import signal
import sys
from pathlib import Path

# Before anything imports huggingface_hub: no test may go to the network.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

# What is started in the background ignores interrupts, its children too; here it is tested what an interrupt does.
signal.signal(signal.SIGINT, signal.default_int_handler)

# `tests.support` and `tests.oracles` are imported by name; at the end, so that no folder here hides a package.
if str(Path(__file__).parents[1]) not in sys.path:
    sys.path.append(str(Path(__file__).parents[1]))


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
