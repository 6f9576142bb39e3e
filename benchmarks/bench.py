"""``make bench``: this package beside plain calls, bare hooks, nnsight by hand, TransformerLens and pyvene.

``python -m benchmarks.bench --quick`` runs everything a few times on a smaller model, to see whether it works.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import importing, memory, sides
from benchmarks.cases import Plan
from benchmarks.comparison import LENS, OURS, PYVENE
from benchmarks.environments import run_side
from benchmarks.making import REQUESTS, llava_shape, make, organism, rows_of
from benchmarks.report import page, tell
from benchmarks.results import LLAVA, ORGANISM
from benchmarks.tasks.ours import Ours
from cmrm_interp.provenance import Provenance

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
SHORT, LONG = Plan(repeats=9, loops=2), Plan(repeats=5, loops=0)
TINY, TRAINED = Plan(repeats=30, loops=5), Plan(repeats=20, loops=5)
BIG, SMALL = (336, 336), (32, 32)


def cases(folder: Path, quick: bool) -> Iterator[Ours]:
    """The models and inputs, written below a folder as they are asked for."""
    shape = partial(llava_shape, 2 if quick else None)
    several: dict[str, Any] = {
        f"{LLAVA}, 1 prompt": (shape, rows_of(1, BIG), SHORT),
        f"{LLAVA}, 4 prompts": (shape, rows_of(4, BIG), LONG),
        f"{ORGANISM}, 1 prompt": (organism, rows_of(1, SMALL, REQUESTS), TINY),
        f"{ORGANISM}, 8 prompts": (organism, rows_of(8, SMALL, REQUESTS), TRAINED),
    }
    for number, (name, (parts, rows, plan)) in enumerate(several.items()):
        if quick:
            plan = replace(plan, repeats=2, loops=min(1, plan.loops), new_tokens=8)
        yield make(folder / str(number), name, parts(), rows, plan)


def measure(quick: bool, libraries: list[str]) -> dict[str, Any]:
    """Everything that the table is made of."""
    found: dict[str, Any] = {"provenance": asdict(Provenance()), "threads": torch.get_num_threads(), "sides": {}}
    with tempfile.TemporaryDirectory() as temporary:
        stages = list(cases(Path(temporary), quick))
        folders = [ours.case.folder for ours in stages]
        if OURS in libraries:
            groups = (group for ours in stages for group in sides.of_package(ours))
            found["sides"][OURS] = sides.run(groups, "cpu")
        for library in (LENS, PYVENE):
            if library in libraries:
                out = Path(temporary, f"{library}.json")
                run_side(library, out, folders)
                found["sides"][library] = json.loads(out.read_text())
    found["import"] = importing.measure(2 if quick else 7)
    found["memory"] = memory.measure((300, 600) if quick else (1_000, 10_000))
    return found


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few rounds of everything, on two layers")
    parser.add_argument("--only", nargs="+", default=[OURS, LENS, PYVENE], choices=[OURS, LENS, PYVENE])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for bench.json and bench.md")
    parser.add_argument("--page", type=Path, help=f"write the page of the documentation there, too ({PAGE.name})")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    found = measure(given.quick, given.only)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "bench.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for path in (given.out / "bench.md", given.page):
        if path is not None:
            path.write_text(page(found), encoding="utf-8")
    print(tell(found))


if __name__ == "__main__":
    main()
