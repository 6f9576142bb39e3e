"""The drawings of the pages: ``python -m docs.drawings [FOLDER]`` writes each for light and for dark pages."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from docs.canvas import BLUE, GREEN, HATCH, ORANGE, PINK, RED, STYLE, Canvas
from docs.drawings_computed import directions, phenomenon, positions

FOLDER = Path(__file__).parent / "figures" / "concepts"


def map_of_concepts(theme: str) -> Canvas:
    """From a prompt to a figure: values in boxes, functions on arrows."""
    sheet = Canvas(7.4, 3.3, theme)
    top, low, xs = 2.35, 0.95, (0.8, 2.75, 4.7, 6.6)
    names = ("Prompt", "Inputs", "Activations", "Directions")
    for x, name, colour in zip(xs, names, (ORANGE, ORANGE, BLUE, BLUE), strict=True):
        sheet.box(x, top, (1.2, 0.5), name, colour)
    for x, name, colour in zip(
        xs[::-1], ("Intervention", "text, logits", "Record", "table, figure"), (RED, GREEN, GREEN, GREEN), strict=True
    ):
        sheet.box(x, low, (1.2, 0.5), name, colour)
    for x, y, words in zip(xs, xs[1:], ("prepare", "capture", "mean_diff"), strict=False):
        sheet.arrow((x + 0.62, top), (y - 0.62, top))
        sheet.text((x + y) / 2 - 0.03, top + 0.15, words, mono=True, size=8)
    for x, y, words in zip(xs, xs[1:], ("plot", "judge\nmetric", "generate\nlogits"), strict=False):
        sheet.arrow((y - 0.62, low), (x + 0.62, low))
        sheet.text((x + y) / 2 - 0.05, low - 0.24, words, mono=True, size=8)
    sheet.arrow((xs[3], top - 0.27), (xs[3], low + 0.27))
    sheet.text(xs[3] + 0.08, 1.65, "Subtract", mono=True, size=8, ha="left")
    sheet.arrow((xs[1] + 0.25, top - 0.27), (xs[2] - 0.3, low + 0.27))
    sheet.text(3.3, 1.5, "the model\nruns again", sheet.soft, size=8, ha="right")
    sheet.line(
        (4.02, 2.92), (7.3, 2.92), (7.3, 0.3), (5.93, 0.3), (5.93, 1.4), (4.02, 1.4), (4.02, 2.92), colour=PINK, ls="--"
    )
    sheet.text(5.65, 3.08, "what a recipe holds: fit above, apply below", PINK, size=8.5)
    return sheet


def hook_points(theme: str) -> Canvas:
    """One block of the decoder and the way through the model, with the names of places."""
    sheet = Canvas(8.2, 4.3, theme)
    stream, branch = 2.2, 3.25
    sheet.line((0.35, stream), (7.85, stream), colour=BLUE, lw=3)
    for x, name in ((0.75, "hook_resid_pre"), (4.2, "hook_resid_mid"), (7.4, "hook_resid_post")):
        sheet.axes.plot(x, stream, "o", color=BLUE, ms=8, zorder=4)
        sheet.text(x, stream - 0.22, name, mono=True, size=7.5)
    parts = {1.75: "ln1", 2.95: "attention", 5.1: "ln2", 6.2: "MLP"}
    for x, name in parts.items():
        sheet.box(x, branch, (0.85 if name != "attention" else 0.95, 0.36), name, ORANGE if "ln" in name else GREEN)
    norm, attention = (
        "hook_scale\nhook_normalized",
        "hook_q hook_k hook_v\nhook_attn_scores\nhook_pattern\nhook_z  hook_result",
    )
    for x, words in (
        (1.68, f"ln1.\n{norm}"),
        (3.05, f"attn.\n{attention}"),
        (5.1, f"ln2.\n{norm}"),
        (6.25, "mlp.\nhook_pre\nhook_pre_linear\nhook_post"),
    ):
        sheet.text(x, branch + 0.25, words, mono=True, size=7, va="bottom")
    for start, norm_x, part_x, plus, out in (
        (1.0, 1.75, 2.95, 3.7, "hook_attn_out"),
        (4.35, 5.1, 6.2, 6.9, "hook_mlp_out"),
    ):
        sheet.arrow((start, stream), (norm_x - 0.44, branch), connectionstyle="angle,angleA=90,angleB=0,rad=4")
        sheet.arrow((norm_x + 0.44, branch), (part_x - 0.49, branch))
        sheet.arrow((part_x + 0.48, branch), (plus, stream + 0.11), connectionstyle="angle,angleA=0,angleB=90,rad=4")
        sheet.text(plus - 0.08, (stream + branch) / 2, out, mono=True, size=7.5, ha="right")
        sheet.text(
            plus,
            stream + 0.005,
            "+",
            BLUE,
            size=12,
            weight="bold",
            bbox={"boxstyle": "circle,pad=0.12", "fc": "#ffffff" if theme == "light" else "#1e2129", "ec": BLUE},
            zorder=5,
        )
    _whole(sheet)
    return sheet


def _whole(sheet: Canvas) -> None:
    low, vision = 0.95, 0.3
    sheet.line((0.35, stream_edge := 1.82), (3.6, 1.3), colour=sheet.soft, ls=":")
    sheet.line((7.85, stream_edge), (4.6, 1.3), colour=sheet.soft, ls=":")
    for x, name, colour in (
        (0.65, "tokens", ""),
        (4.1, "blocks.{i}", BLUE),
        (6.1, "final norm", ORANGE),
        (7.6, "unembed", GREEN),
    ):
        sheet.box(x, low, (1.0, 0.36), name, colour, mono=name.startswith("blocks"), size=8.5)
    for start, end, name in ((1.17, 3.58, "hook_embed"), (4.62, 5.58, ""), (6.62, 7.08, "")):
        sheet.arrow((start, low), (end, low))
        sheet.text((start + end) / 2, low + 0.13, name, mono=True, size=7.5)
    sheet.text(6.1, low - 0.3, "ln_final.*", mono=True, size=7.5)
    sheet.text(7.6, low - 0.36, "unembed.\nhook_out", mono=True, size=7.5, va="center")
    for x, name in ((0.65, "image"), (1.9, "vision"), (4.1, "projector")):
        sheet.box(x, vision, (1.0, 0.36), name, "" if name == "image" else PINK, size=8.5)
    sheet.arrow((1.17, vision), (1.38, vision))
    sheet.arrow((2.42, vision), (3.58, vision))
    sheet.arrow((4.1, vision + 0.2), (4.1, low - 0.2))
    sheet.text(4.7, vision, "projector.\nhook_out", mono=True, size=7.5, ha="left")
    sheet.text(3.0, vision + 0.13, "vision.hook_out", mono=True, size=7.5)


def activations(theme: str) -> Canvas:
    """A padded batch, and what a capture keeps of it."""
    sheet, size = Canvas(7.4, 3.1, theme), (0.24, 0.24)
    lengths, images = (7, 4, 6), (3, 0, 2)
    real = [[column >= 7 - n for column in range(7)] for n in lengths]
    image = [[7 - n + 1 <= column < 7 - n + 1 + m for column in range(7)] for n, m in zip(lengths, images, strict=True)]
    sheet.text(0.95, 2.85, "the batch, padded")
    _grid(sheet, 0.1, 1.75, real, image)
    sheet.text(0.95, 1.6, "batch pos", sheet.soft, size=8, va="top")
    kept = (
        ("last", 2.75, [[True]] * 3, "batch d_model"),
        ("image", 4.0, [[n < m for n in range(3)] for m in images], "batch pos d_model\n+ mask"),
        ("all", 5.55, real, "batch pos d_model\n+ mask"),
    )
    for name, x, cells, shape in kept:
        middle = x + len(cells[0]) * size[0] / 2
        sheet.text(middle, 2.85, f'"{name}"', mono=True)
        _grid(sheet, x, 1.75, cells, image if name == "all" else [[name == "image"] * 3] * 3, last=name == "last")
        sheet.text(middle, 1.6, shape, sheet.soft, size=8, va="top")
    sheet.arrow((1.95, 2.1), (2.55, 2.1))
    sheet.text(2.25, 2.25, "capture", mono=True, size=8)
    for x, words, colour in ((0.3, "text", BLUE), (1.2, "image", ORANGE), (2.25, "last", RED)):
        sheet.cell(x, 0.72, (0.2, 0.2), colour)
        sheet.text(x + 0.28, 0.82, words, ha="left", size=8.5)
    sheet.cell(3.1, 0.72, (0.2, 0.2), hatch=HATCH)
    sheet.text(3.38, 0.82, "padding: False in the mask, never in a mean", ha="left", size=8.5)
    sheet.text(0.3, 0.28, 'acts["blocks.3.hook_resid_post"]', mono=True, size=8.5, ha="left")
    sheet.text(3.1, 0.28, "one such tensor for each hook point that was asked for", ha="left", size=8.5)
    return sheet


def _grid(
    sheet: Canvas, x: float, y: float, real: list[list[bool]], image: list[list[bool]], last: bool = False
) -> None:
    for row, cells in enumerate(real):
        for column, here in enumerate(cells):
            ends = last or (len(cells) == 7 and column == 6)
            colour = RED if ends else ORANGE if image[row][column] else BLUE
            place = x + column * 0.24, y + (2 - row) * 0.28
            sheet.cell(*place, (0.24, 0.24), colour if here else "", **({} if here else {"hatch": HATCH}))


def interventions(theme: str) -> Canvas:
    """What each kind does to the state of one token."""
    sheet = Canvas(7.4, 3.7, theme)
    x, v = np.array((0.35, 0.8)), np.array((0.9, 0.0))
    ends: dict[str, Any] = {
        "Add(v, alpha)": x + 0.9 * v,
        "Subtract(v, alpha)": x - 0.7 * v,
        "ProjectOut(v)": np.array((0.0, x[1])),
        "Clamp(v, high=c)": np.array((0.16, x[1])),
        'Ablate(hook, "mean")': np.array((0.75, 0.3)),
        "Gate(condition, ...)": x + 0.9 * v,
    }
    for n, (name, end) in enumerate(ends.items()):
        origin = np.array((0.95 + 2.45 * (n % 3), 2.3 if n < 3 else 0.45))
        _panel(sheet, origin, name, x, np.asarray(end))
    return sheet


def _by(origin: Any, x: float, y: float) -> tuple[float, float]:
    return (origin[0] + x, origin[1] + y)


def _panel(sheet: Canvas, origin: Any, name: str, x: Any, end: Any) -> None:
    sheet.text(origin[0] + 0.25, origin[1] + 1.2, name, mono=True, size=9)
    sheet.line(_by(origin, -0.55, -0.0), _by(origin, 1.3, 0), lw=0.8)
    sheet.line(_by(origin, -0.0, -0.12), _by(origin, 0, 1.0), lw=0.8)
    reference = "mean" in name
    if not reference:
        sheet.arrow(tuple(origin), _by(origin, 0.9, 0), GREEN, lw=2)
        sheet.text(origin[0] + 1.02, origin[1] + 0.14, "v", GREEN)
    else:
        spread = np.random.default_rng(0).normal(0, (0.17, 0.1), (12, 2))
        sheet.axes.plot(*(origin + end + spread - spread.mean(0)).T, "o", color=sheet.soft, ms=2.5)
    if "Clamp" in name:
        sheet.line(_by(origin, 0.16, -0.12), _by(origin, 0.16, 1.0), ls=":", colour=ORANGE)
        sheet.text(origin[0] + 0.24, origin[1] - 0.12, "c", ORANGE)
    starts = [x, np.array((-0.45, 0.35))] if "Gate" in name else [x]
    if "Gate" in name:
        sheet.line(_by(origin, -0.2, -0.12), _by(origin, -0.2, 1.0), ls=":", colour=ORANGE)
        sheet.text(origin[0] - 0.5, origin[1] + 0.75, "stays", ORANGE, size=8)
    for start in starts:
        sheet.axes.plot(*(origin + start), "o", color=sheet.ink, ms=6, zorder=5)
    sheet.arrow(tuple(origin + x), tuple(origin + end), RED, lw=2.2, mutation_scale=12, shrinkA=4, zorder=4)
    sheet.axes.plot(*(origin + end), "o", mfc="none", mec=RED, ms=6, mew=1.6, zorder=6)


def recipes(theme: str) -> Canvas:
    """Settings, fit, what is found, and the two ways of applying it."""
    sheet = Canvas(7.4, 2.9, theme)
    sheet.box(0.85, 2.0, (1.4, 0.75), "CMRM(alpha=1.0)\nsettings alone", ORANGE, size=8.5)
    sheet.box(0.85, 0.75, (1.4, 0.75), "anchors\na model", ORANGE, size=8.5)
    sheet.arrow((1.6, 1.9), (2.5, 1.55))
    sheet.arrow((1.6, 0.85), (2.5, 1.2))
    sheet.text(2.05, 1.4, ".fit", mono=True)
    sheet.box(
        3.45,
        1.38,
        (1.8, 1.5),
        "a fitted copy\n\nwhat was found\nmodel's fingerprint\nmarks of the anchors",
        BLUE,
        size=8.5,
    )
    for y, name in ((2.35, ".generate"), (1.38, ".interventions"), (0.4, ".save")):
        sheet.arrow((4.4, 1.38 + (y - 1.38) * 0.5), (5.75, y))
        sheet.text(5.0, 1.55 if y == 1.38 else y + (0.1 if y > 1 else -0.05), name, mono=True, size=8)
    for y, words, colour in (
        (2.35, "answers", GREEN),
        (1.38, "a list for\nlogits, capture, sweep", RED),
        (0.4, "one file", GREEN),
    ):
        sheet.box(6.55, y, (1.55, 0.55), words, colour, size=8.5)
    return sheet


def experiments(theme: str) -> Canvas:
    """A sweep: the prompt once, its variants behind it, values, tables."""
    sheet = Canvas(7.4, 2.9, theme)
    sheet.text(1.35, 2.65, "the prompt, run once")
    for column in range(9):
        sheet.cell(0.2 + column * 0.26, 1.5, (0.26, 0.26), ORANGE if 1 <= column < 6 else BLUE)
    sheet.text(3.35, 2.65, "variants of its last token")
    cells = [(layer, alpha) for layer in (1, 3) for alpha in (0.5, 1.0)]
    for n, (layer, alpha) in enumerate(cells):
        y = 2.2 - n * 0.42
        sheet.line((2.54, 1.63), (2.85, y + 0.13), lw=0.8)
        sheet.cell(2.85, y, (0.26, 0.26), RED)
        sheet.text(3.2, y + 0.13, f"layer {layer}, alpha {alpha}", ha="left", size=8.5)
        sheet.arrow((4.5, y + 0.13), (4.85, y + 0.13), lw=0.8)
        sheet.cell(4.9, y, (0.55, 0.26), GREEN, alpha=0.35 + 0.15 * n)
    sheet.text(5.2, 2.65, "metric")
    sheet.arrow((5.55, 1.63), (5.95, 1.63))
    sheet.box(6.65, 1.63, (1.3, 1.2), ".table()\n.test()\n.plot()", GREEN, mono=True, size=8.5)
    sheet.text(
        0.2,
        0.4,
        "store=folder keeps the values as they come; the same call goes on after an interrupt.",
        sheet.soft,
        ha="left",
        size=8.5,
    )
    sheet.text(0.2, 1.2, "keys and values are\nkept and read by all", sheet.soft, ha="left", va="top", size=8.5)
    return sheet


def scale(theme: str) -> Canvas:
    """Where the model can be; the calls stay the same."""
    sheet = Canvas(7.4, 2.7, theme)
    places = (
        ("here", "ci.load(name)", 1),
        ("spread out", 'device_map="auto"', 2),
        ("many copies", "ci.Workers(name)", 3),
        ("elsewhere", "remote=True", 4),
    )
    for n, (name, call, kind) in enumerate(places):
        x = 0.95 + n * 1.83
        sheet.text(x, 2.48, name)
        sheet.text(x, 2.2, call, mono=True, size=7.5)
        sheet.box(x, 0.95, (1.6, 1.8), ls="--" if kind == 4 else "-")
        for y in (1.4, 0.95, 0.5) if kind in (2, 3) else (0.95,):
            whole = kind != 2
            label = {
                1: "all blocks",
                2: {1.4: "GPU 0: 0-15", 0.95: "GPU 1: 16-31", 0.5: "CPU, disk"}.get(y, ""),
                3: "all blocks",
                4: "all blocks\n(NDIF)",
            }[kind]
            sheet.box(x, y, (1.2, 0.36 if kind in (2, 3) else 0.6), str(label), BLUE if whole else ORANGE, size=8)
    return sheet


def elsewhere(theme: str) -> Canvas:
    """What comes in from other programs, and what goes out to them."""
    sheet = Canvas(7.4, 2.9, theme)
    sheet.box(3.7, 1.45, (1.5, 0.6), "Directions", BLUE)
    sheet.box(3.7, 0.5, (1.5, 0.6), "Interventions", RED)
    sheet.arrow((3.7, 1.13), (3.7, 0.82))
    coming = (("GGUF control vector", 2.45), ("steering-vectors", 1.8), ("RepE reader", 1.15), ("SAELens decoder", 0.5))
    for name, y in coming:
        sheet.box(0.95, y, (1.6, 0.42), name, ORANGE, size=8.5)
        sheet.arrow((1.78, y), (2.9, 1.45 + (y - 1.45) * 0.25))
    sheet.text(2.35, 2.62, "interop", mono=True, size=8.5)
    going = (
        ("safetensors file", 2.45, 1.6),
        ("GGUF: llama.cpp,\nEasySteer", 1.8, 1.45),
        ("steering-vectors", 1.15, 1.3),
        ("checkpoint folder:\ntransformers, vLLM", 0.5, 0.5),
    )
    for name, y, start in going:
        sheet.box(6.4, y, (1.7, 0.44), name, GREEN, size=8.5)
        sheet.arrow((4.48, start), (5.52, y))
    sheet.text(5.0, 0.62, "bake", mono=True, size=8.5)
    return sheet


DRAWINGS: dict[str, Callable[[str], Canvas]] = {
    "map": map_of_concepts,
    "hook-points": hook_points,
    "positions": positions,
    "activations": activations,
    "directions": directions,
    "interventions": interventions,
    "recipes": recipes,
    "experiments": experiments,
    "scale": scale,
    "elsewhere": elsewhere,
    "phenomenon": phenomenon,
}


def main(folder: Path, suffix: str = ".svg", names: tuple[str, ...] = tuple(DRAWINGS)) -> None:
    """Write drawings into a folder, each for light and for dark pages."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name in names:
            for theme in ("light", "dark"):
                sheet = DRAWINGS[name](theme)
                sheet.save(folder / f"{name}-{theme}{suffix}")
                if sheet.overlaps():
                    print(f"{name}: these lie on one another, or leave the sheet: {sheet.overlaps()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
