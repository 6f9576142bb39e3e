"""``make parity``: run both sides on the same weights and inputs, print the table, fail on any difference.

``python -m parity.run llava gpt2`` compares some of the models.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from parity import patching
from parity.cases import MODELS
from parity.compare import TOLERANCE, Result, compare
from parity.environment import interpreter
from parity.ours import PATCHING, SIDES, make

HEADER = """\
| model | padding | hook points read | largest difference | written at | largest difference of logits |
|--|--|--|--|--|--|"""


def main(families: list[str]) -> int:
    """Zero where every shared name has the same shape and value on both sides."""
    python = interpreter()
    with tempfile.TemporaryDirectory() as folder:
        chosen = [model for model in MODELS if not families or model.family in families]
        points = {model: make(model, Path(folder, model.family)) for model in chosen}
        # Nothing is to be downloaded, and pip is not to be run by what is compared.
        quiet = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "TOKENIZERS_PARALLELISM": "false"}
        subprocess.run([str(python), "-m", "parity.theirs", folder], check=True, env={**os.environ, **quiet})
        cases = [Path(folder, model.family, PATCHING) for model in chosen if model.patching]
        patched = {patching.told(case): patching.compare(case) for case in cases}
        results = [
            compare(model, names, Path(folder, model.family, side)) for model, names in points.items() for side in SIDES
        ]
    report(results, patched)
    return any(patched.values()) or any(result.wrong for result in results)


def report(results: list[Result], patched: dict[str, list[str]]) -> None:
    """Print the table, the names that only one side has, and what is wrong.

    Args:
        results: of reads and writes.
        patched: what was seen of patching, and what is wrong with it.
    """
    print(HEADER)
    for r in results:
        reads, logits = max(r.reads.values(), default=0.0), max([r.logits, *r.writes.values()])
        print(f"| {r.family} | {r.side} | {len(r.reads)} | {reads:.1e} | {len(r.writes)} | {logits:.1e} |")
    only: dict[str, list[str]] = {}
    for r in results[:: len(SIDES)]:
        only.setdefault(f"only here: {', '.join(r.only_ours) or 'nothing'}", []).append(r.family)
        only.setdefault(f"only in TransformerLens: {', '.join(r.only_theirs) or 'nothing'}", []).append(r.family)
    for words, families in only.items():
        print(f"\n{', '.join(families)}: {words}")
    for r in results:
        for words in r.wrong:
            print(f"WRONG {r.family}, {r.side} padding: {words}")
    for seen, wrong in patched.items():
        print(f"\npatching: {seen}", *(f"WRONG in patching: {words}" for words in wrong), sep="\n")
    verdict = "differences" if any(r.wrong for r in results) else f"every difference is below {TOLERANCE:g}"
    print(f"\nparity: {verdict}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
