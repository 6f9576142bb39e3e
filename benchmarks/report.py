"""The page of results, made from what was saved: ``python -m benchmarks.report BENCH.JSON PAGE.MD``."""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.comparison import TOLERANCE
from benchmarks.results import IMPORT_SECONDS, MEMORY_GROWTH, Row, rows_of, table

PAGE = """\
# Speed and memory

`make bench` measures this package beside plain Hugging Face calls, bare PyTorch hooks, nnsight by hand,
TransformerLens and pyvene; with `ARGS="--page docs/benchmarks.md"` it makes this page. Every row is a ratio of two
times that were taken in turn in one process, on the same weights and inputs, so that it hardly depends on the machine;
times themselves are not shown.

## Targets

{targets}

{import_}

{memory}

## Every row

{rows}

## What was compared

- **LLaVA shape**: LLaVA with 576 image tokens, 16 layers, d = 256, random weights, fp32; prompts of 14 to 17 tokens.
  **Organism**: the shipped trained model (6 layers, d = 128, 16 image tokens): fixed costs show there.
- One torch thread. SDPA attention, but for TransformerLens, which runs attention eagerly ("hooks, eager attention"
  is what bare hooks take with it).
- **plain Hugging Face**: `model(**tensors, use_cache=False, logits_to_keep=1)` or `model.generate(...)`, on a copy that
  nothing has wrapped; **hooks**: the task written with forward hooks, the model run once a cell.
- Tensors are encoded beforehand, except where the task says so.
- Patches of words behind the image can all share the image's keys and values. All over the prompt, cells need half of
  the layers and half of the tokens on average, so that 4 x is the limit.
- The sweep has two variants a layer, 32 at the LLaVA shape: the hooks take a pass for each, and one pass for all
  would be the limit.
- "ratio" is the median over rounds of the ratio within a round; "quartiles" of the same, with the number of rounds;
  "of shortest" compares the shortest times, "of processor time" is the median ratio of the processor's times, which
  other work on the machine lengthens less. Rounds alternate the order. Where TransformerLens and this package
  are compared, each one's ratio to the same baseline, taken in its own process, is divided by the other's.
- Before anything was timed, outputs were compared: "outputs apart" is the largest difference from the hooks' output,
  as a share of its largest number (fp32; {tolerance:g} is allowed, generated tokens are equal).

{notes}
{versions}
"""


def page(found: dict[str, Any]) -> str:
    """The page, as Markdown."""
    return PAGE.format(
        targets=table(row for row in rows(found) if row.target is not None),
        rows=table(rows(found)),
        import_=import_words(found["import"]),
        memory=memory_words(found["memory"]),
        versions=_versions(found),
        notes=_notes(found),
        tolerance=TOLERANCE,
    )


def tell(found: dict[str, Any]) -> str:
    """What the command prints: the table, and what was missed."""
    missed = [row for row in rows(found) if row.met is False]
    words = [f"missed: {row.task}, {row.case}: {row.ratio.median:.3g}, target {row.target:g}" for row in missed]
    parts = [table(rows(found)), import_words(found["import"]), memory_words(found["memory"]), "\n".join(words)]
    return "\n\n".join(part for part in parts if part)


def rows(found: dict[str, Any]) -> list[Row]:
    """Rows of all sides."""
    return rows_of(group for side in found["sides"].values() for group in side["measured"])


def import_words(found: dict[str, Any]) -> str:
    """One sentence on importing."""
    met = "met" if found["median"] < IMPORT_SECONDS else "**missed**"
    early = f" Too early: {', '.join(found['too early'])}." if found["too early"] else ""
    runs = f"{found['least']:.2f}-{found['most']:.2f} in {found['repeats']} fresh processes"
    return (
        f"`import cmrm_interp` adds {found['median']:.2f} s ({runs}; {found['cpu']:.2f} s of processor time) to"
        f" importing torch, transformers and nnsight; target < {IMPORT_SECONDS} s: {met}.{early}"
    )


def memory_words(found: list[dict[str, float]]) -> str:
    """One sentence on memory."""
    few, many = found[0], found[-1]
    more = (many["grown MiB"] - few["grown MiB"]) / few["before MiB"]
    met = "met" if more < MEMORY_GROWTH else "**missed**"
    grown = ", ".join(f"{run['prompts']:,.0f} prompts {run['grown MiB']:.0f} MiB" for run in found)
    return (
        f"A mean difference over many prompts (with a blank image and without, the organism, batches of 64) raises the"
        f" peak of a process of {few['before MiB']:.0f} MiB by: {grown}. Constant memory: {met}."
    )


def _notes(found: dict[str, Any]) -> str:
    notes = [note for side in found["sides"].values() for note in side.get("notes", ())]
    return "".join(f"{note}; it is measured by the paths of modules.\n" for note in notes)


def _versions(found: dict[str, Any]) -> str:
    lines = []
    for library, side in found["sides"].items():
        known = ", ".join(f"{name} {version}" for name, version in side["versions"].items())
        lines.append(f"- beside {library}: {known}")
    return "Versions, environment by environment:\n\n" + "\n".join(lines)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
