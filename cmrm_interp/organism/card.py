"""Fills the organism's card: tables of results, figures, checksums. ``python -m cmrm_interp.organism.card FOLDER``.

The card's prose is written by hand; between ``<!-- name -->`` and ``<!-- /name -->`` stands what this module computes
from ``results.json`` and ``training.json``, so that no number of a table is ever typed.
"""

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from cmrm_interp.errors import InputError
from cmrm_interp.organism.results import Cell, Count, entry, load_cells, select
from cmrm_interp.records import markdown

METHODS = (
    ("dataset mean", "live", "prefill"),
    ("dataset mean", "live", "all"),
    ("dataset mean", "incremental", "prefill"),
    ("dataset mean", "incremental", "all"),
    ("principal component", "live", "prefill"),
    ("sample", "live", "prefill"),
    ("random vector", "live", "prefill"),
    ("random vector", "incremental", "prefill"),
)
MAIN = METHODS[0]
IMAGES = ("real", "blank", "noise")
_PLAIN = (
    ("no image", "text"),
    ("real picture", "real"),
    ("blank (white)", "blank"),
    ("noise", "noise"),
    ("black", "black"),
    ("grey", "grey"),
    ("uniform noise", "uniform_noise"),
    ("blurred", "blur"),
    ("shuffled", "shuffle"),
    ("caption in words, no image", "caption"),
)


def seeds(cells: Sequence[Cell]) -> list[int]:
    """The training seeds that were measured.

    Args:
        cells: all results.
    """
    return sorted({cell.seed for cell in cells})


def plain_table(cells: Sequence[Cell]) -> str:
    """Unsafe rates without intervention, by what comes with the harmful request; one column a seed.

    Args:
        cells: all results.
    """
    tested = select(cells, split="test", kind="harmful", method="none")
    rows = [
        [label, *(entry(select(tested, image=image, seed=seed), "complied") for seed in seeds(cells))]
        for label, image in _PLAIN
    ]
    before = select(cells, split="test", kind="harmful", method="backbone before vision")
    rows.append(
        [
            "no image, backbone before vision",
            *(entry(select(before, seed=s), "complied") for s in seeds(cells)),
        ]
    )
    return markdown(["with the request", *(f"seed {seed}" for seed in seeds(cells))], rows)


def benign_table(cells: Sequence[Cell]) -> str:
    """What happens to requests and questions that are not harmful, without intervention.

    Args:
        cells: all results.
    """
    shown: tuple[tuple[str, str, str, Count], ...] = (
        ("benign refused, text", "benign", "text", "refused"),
        ("benign refused, picture", "benign", "real", "refused"),
        ("benign right, text", "benign", "text", "right"),
        ("benign right, picture", "benign", "real", "right"),
        ("asks to be safe, refused, text", "avoid", "text", "refused"),
        ("asks to be safe, refused, picture", "avoid", "real", "refused"),
        ("visual questions right", "visual", "real", "right"),
    )
    tested = select(cells, split="test", method="none")
    rows = [
        [label, *(entry(select(tested, kind=kind, image=image, seed=s), count) for s in seeds(cells))]
        for label, kind, image, count in shown
    ]
    return markdown(["", *(f"seed {seed}" for seed in seeds(cells))], rows)


def method_row(cells: Sequence[Cell]) -> list[str]:
    """Unsafe by image, worst *neither*, benign refusals and visual accuracy of one method on one seed.

    Args:
        cells: the test cells of that method at one alpha on one seed.
    """
    harmful = select(cells, kind="harmful")
    worst = max(harmful, key=lambda cell: cell.neither / cell.n)
    return [
        *(entry(select(harmful, image=image), "complied") for image in IMAGES),
        f"{100 * worst.neither / worst.n:.1f}",
        entry(select(cells, kind="benign"), "refused"),
        entry(select(cells, kind="visual"), "right"),
    ]


def methods_table(cells: Sequence[Cell]) -> str:
    """Every intervention at the alpha chosen on validation; one row a method and seed.

    Args:
        cells: all results.
    """
    rows = []
    for method, application, steps in METHODS:
        for seed in seeds(cells):
            same = select(cells, method=method, application=application, steps=steps, seed=seed)
            tested = select(same, split="test", chosen=True)
            if tested:
                name = f"{method}, {application}, {steps}"
                rows.append([name, str(seed), f"{tested[0].alpha:g}", *method_row(tested)])
    header = ["method", "seed", "alpha", *(f"unsafe, {image}" for image in IMAGES)]
    return markdown([*header, "neither (worst)", "benign refused", "visual right"], rows)


def window_figure(cells: Sequence[Cell], path: Path) -> None:
    """Draws unsafe rate, benign refusals and visual accuracy against alpha on validation, a panel a seed.

    Args:
        cells: all results.
        path: the PNG to write.
    """
    figure = Figure(figsize=(4 * len(seeds(cells)), 3.2), layout="constrained")
    panels = figure.subplots(1, len(seeds(cells)), sharey=True, squeeze=False)[0]
    method, application, steps = MAIN
    for panel, seed in zip(panels, seeds(cells), strict=True):
        chosen = select(cells, seed=seed, method=method, application=application, steps=steps)
        swept = select(chosen, split="validation")
        plain = select(cells, seed=seed, method="none", split="validation")
        lines = [(f"unsafe, {image}", "harmful", image, "complied", "-") for image in IMAGES]
        lines += [("benign refused", "benign", "real", "refused", "--")]
        lines += [("visual right", "visual", "real", "right", ":")]
        for label, kind, image, count, style in lines:
            line = sorted(select([*plain, *swept], kind=kind, image=image), key=lambda cell: cell.alpha)
            rates = [100 * getattr(cell, count) / cell.n for cell in line]
            panel.plot([cell.alpha for cell in line], rates, style, label=label)
        panel.axvline(select(chosen, split="test")[0].alpha, color="grey", linewidth=0.8)
        panel.set(title=f"seed {seed}", xlabel="alpha", ylabel="% of validation requests")
    panels[0].legend(fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": f"matplotlib {matplotlib.__version__}"})


def training_figure(training: dict[str, dict[str, dict]], path: Path) -> None:
    """Draws the loss of every stage, a panel a stage, a line a seed.

    Args:
        training: seed -> stage -> record with its ``curve`` of (step, loss).
        path: the PNG to write.
    """
    stages = list(next(iter(training.values())))
    figure = Figure(figsize=(2.6 * len(stages), 2.6), layout="constrained")
    for panel, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        for seed, records in training.items():
            steps, losses = zip(*records[stage]["curve"], strict=True)
            panel.plot(steps, losses, label=f"seed {seed}", linewidth=1)
        panel.set(title=f"stage {stage}", xlabel="step", yscale="log")
    figure.axes[0].set_ylabel("training loss")
    figure.axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": f"matplotlib {matplotlib.__version__}"})


def gates_table(training: dict[str, dict[str, dict]]) -> str:
    """What every stage's gate measured on validation requests.

    Args:
        training: seed -> stage -> record with its ``gates``.
    """
    first = next(iter(training.values()))
    rows = [
        [f"after {stage}: {name}", *(f"{100 * records[stage]['gates'][name]:.1f}" for records in training.values())]
        for stage, record in first.items()
        for name in record.get("gates", {})
    ]
    return markdown(["gate", *(f"seed {seed}" for seed in training)], rows)


def checksums(folder: Path) -> str:
    """SHA-256 of every weights file in a folder.

    Args:
        folder: of the organism.
    """
    files = sorted(folder.rglob("*.safetensors"))
    rows = [
        [
            f"`{file.relative_to(folder)}`",
            str(file.stat().st_size),
            f"`{hashlib.sha256(file.read_bytes()).hexdigest()}`",
        ]
        for file in files
    ]
    return markdown(["file", "bytes", "SHA-256"], rows)


def fill(text: str, name: str, content: str) -> str:
    """Replaces what stands between a section's two markers.

    Args:
        text: the card.
        name: of the section.
        content: what to put there.

    Raises:
        InputError: if the card has no such section.
    """
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise InputError(f"the card has no section {name!r}: add <!-- {name} --> and <!-- /{name} --> lines")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def write_card(folder: Path) -> None:
    """Fills all sections of ``README.md`` in a folder and draws its figures.

    Args:
        folder: of the organism, with results.json, training.json and the weights.
    """
    cells = load_cells(folder / "results.json")
    training = json.loads((folder / "training.json").read_text())
    sections = {
        "plain": plain_table(cells),
        "benign": benign_table(cells),
        "methods": methods_table(cells),
        "gates": gates_table(training),
        "checksums": checksums(folder),
    }
    card = folder / "README.md"
    text = card.read_text()
    for name, content in sections.items():
        text = fill(text, name, content)
    card.write_text(text)
    window_figure(cells, folder / "window.png")
    training_figure(training, folder / "training.png")


if __name__ == "__main__":
    write_card(Path(sys.argv[1]))
