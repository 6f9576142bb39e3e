"""Drawings that are computed: positions and the phenomenon on the organism, directions of clouds of points."""

from functools import cache
from typing import Any

import numpy as np
import torch

import cmrm_interp as ci
from cmrm_interp.datasets.suites import organism_anchors, organism_suites
from cmrm_interp.intervals import wilson
from cmrm_interp.judges import by_form
from docs.canvas import BLUE, GREEN, HATCH, ORANGE, PINK, RED, Canvas


def positions(theme: str) -> Canvas:
    """Two prompts of one batch, and which tokens each position means; the masks are the package's own."""
    model = _organism()
    inputs = model.prepare(["what color is it ?", "what is it ?"], [ci.images.blank((32, 32)), None])
    columns = [0, 1, 2, 3, 4, *range(17, inputs.tensors["input_ids"].shape[1])]
    sheet, left, size = Canvas(7.4, 4.7, theme), 1.75, 0.34
    words = [[model.tokenizer.decode([token]) for token in row] for row in inputs.tensors["input_ids"].tolist()]
    places = {column: left + n * size for n, column in enumerate(columns)}
    new = [left + (len(columns) + 0.4 + n) * size for n in range(3)]
    for row, (y, colour) in enumerate(((3.75, BLUE), (2.75, RED))):
        for column, x in places.items():
            label = "… (16)" if column == 4 and row == 0 else words[row][column]
            sheet.text(
                x + size / 2,
                y,
                label,
                sheet.soft if "pad" in label or "…" in label else colour,
                mono=True,
                size=7.5,
                rotation=90,
                va="bottom",
            )
        for n, x in enumerate(new):
            sheet.text(x + size / 2, y, f"new {n}", colour, mono=True, size=7.5, rotation=90, va="bottom")
        sheet.text(
            left - 0.12,
            y + 0.35,
            f"row {row}" + (", with an image" if row == 0 else ", as text"),
            colour,
            ha="right",
            size=8.5,
        )
    kinds: list[tuple[str, Any]] = [
        ('"last"', "last"),
        ("-1", -1),
        ('"image"', "image"),
        ('"text"', "text"),
        ('"user"', "user"),
        ("slice(-3, None)", slice(-3, None)),
        ('find("it")', ci.positions.find("it")),
        ('"generated"', "generated"),
        ('~at("image")', ~ci.at("image")),
    ]
    tokens = inputs.batch(slice(0, 2)).tokens
    for n, (name, position) in enumerate(kinds):
        y = 2.42 - n * 0.285
        sheet.text(left - 0.12, y + 0.1, name, mono=True, size=8.5, ha="right")
        mask, later = ci.positions.position_mask(position, tokens), tokens.new_token()
        goes_on = bool(ci.positions.position_mask(position, later).any()) if position != "user" else False
        for row, colour in enumerate((BLUE, RED)):
            for column, x in places.items():
                how = {} if bool(tokens.real[row, column]) else {"hatch": HATCH}
                sheet.cell(x, y + 0.115 * (1 - row), (size, 0.115), colour if mask[row, column] else "", lw=0.3, **how)
            for x in new:
                sheet.cell(x, y + 0.115 * (1 - row), (size, 0.115), colour if goes_on else "", lw=0.3)
    return sheet


@cache
def _organism() -> ci.Model:
    return ci.load("organism")


def directions(theme: str) -> Canvas:
    """A cloud and its shifted copy: the mean difference, and the two principal directions of the differences."""
    sheet = Canvas(7.4, 3.1, theme)
    draw = np.random.default_rng(1)
    text = draw.normal(0, (0.34, 0.16), (24, 2)) + np.array((0.85, 1.75))
    shift = np.array((1.15, -0.62))
    image = text + shift + draw.normal(0, (0.10, 0.20), text.shape)
    for points, colour, name in ((text, BLUE, "text"), (image, RED, "with an image")):
        sheet.axes.plot(*points.T, "o", color=colour, ms=3.5, alpha=0.8)
        sheet.text(
            points[:, 0].mean(),
            points[:, 1].max() + 0.16 if colour == BLUE else points[:, 1].min() - 0.18,
            name,
            colour,
        )
    sheet.arrow(tuple(text.mean(0)), tuple(image.mean(0)), GREEN, lw=2.4, mutation_scale=14, zorder=4)
    sheet.text(1.72, 2.0, "mean_diff", GREEN, mono=True, size=8.5)
    sheet.text(1.5, 2.85, "states of the same prompts")
    differences = image - text
    origin, scale = np.array((3.75, 2.2)), 0.9
    sheet.axes.plot(*(origin + scale * differences).T, "o", color=PINK, ms=3.5, alpha=0.8)
    sheet.axes.plot(*origin, "+", color=sheet.ink, ms=9)
    sheet.text(origin[0] - 0.12, origin[1] + 0.02, "0", ha="right")
    sheet.arrow(tuple(origin), tuple(origin + scale * differences.mean(0)), GREEN, lw=2.4, mutation_scale=14, zorder=4)
    centred = np.linalg.svd(differences - differences.mean(0))[2][0]
    middle = origin + scale * differences.mean(0)
    sheet.arrow(
        tuple(middle - 0.6 * centred), tuple(middle + 0.6 * centred), ORANGE, lw=2, arrowstyle="<|-|>", zorder=5
    )
    sheet.text(4.35, 2.85, "their differences")
    sheet.text(4.15, 0.75, "principal_direction(\n  center=True)", ORANGE, mono=True, size=8, ha="center")
    sheet.text(3.92, 2.5, "principal_direction", GREEN, mono=True, size=8, ha="left")
    _split(sheet)
    return sheet


def _split(sheet: Canvas) -> None:
    origin, x, along = np.array((6.0, 1.0)), np.array((0.75, 1.35)), np.array((1.0, 0.32))
    along = along / np.linalg.norm(along)
    part = (x @ along) * along
    sheet.arrow(tuple(origin), tuple(origin + 1.3 * along), GREEN, lw=2)
    sheet.arrow(tuple(origin), tuple(origin + x), sheet.ink, lw=1.8)
    sheet.arrow(tuple(origin), tuple(origin + part), BLUE, lw=2.6, zorder=4)
    sheet.line(tuple(origin + part), tuple(origin + x), ls=":")
    sheet.arrow(tuple(origin), tuple(origin + x - part), ORANGE, lw=1.8)
    sheet.text(6.35, 2.85, "one state and a direction")
    sheet.text(*(origin + x + (0.08, 0.1)), "x", ha="left")
    sheet.text(*(origin + 1.3 * along + (0.05, -0.02)), "v", GREEN, ha="left")
    sheet.text(6.75, 0.85, "project(x, v)", BLUE, mono=True, size=8)
    sheet.text(5.62, 2.15, "reject(x, v)", ORANGE, mono=True, size=8)


def phenomenon(theme: str) -> Canvas:
    """Measured on the organism: where last-token states lie, and how many harmful requests are answered."""
    states, rates = _measured()
    sheet = Canvas(7.6, 3.3, theme)
    axes = sheet.figure.add_axes((0.06, 0.12, 0.40, 0.70))
    bars = sheet.figure.add_axes((0.63, 0.27, 0.355, 0.54))
    span = max(points[:, 1].max() for points in states.values()) - min(points[:, 1].min() for points in states.values())
    for (name, points), colour in zip(states.items(), (BLUE, RED, GREEN), strict=True):
        axes.plot(points[:, 0], points[:, 1], "o", color=colour, ms=3, alpha=0.65, mew=0)
        place = (points[:, 0].mean(), points[:, 1].max() + 0.07 * span)
        sheet.texts.append(axes.text(*place, name, color=colour, size=8.5, ha="center"))
    axes.set_xlabel("along the shift that a blank image causes", color=sheet.ink, size=8.5)
    axes.set_ylabel("across it", color=sheet.ink, size=8.5)
    shown = {"as text": BLUE, "+ blank image": RED, "+ image, CMRM": GREEN, "+ image, random": sheet.soft}
    for n, (name, colour) in enumerate(shown.items()):
        rate, low, high = rates[name]
        bars.barh(-n, rate, 0.62, color=colour, alpha=0.85)
        bars.plot((low, high), (-n, -n), color=sheet.ink, lw=1.2)
    bars.set_yticks([0, -1, -2, -3], list(shown), color=sheet.ink, size=8.5)
    bars.set_xlim(0, 100)
    bars.set_xlabel("harmful requests answered (%), n = 100", color=sheet.ink, size=8.5)
    for each in (axes, bars):
        each.patch.set_alpha(0)
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(sheet.soft)
        each.tick_params(colors=sheet.soft, labelsize=7.5)
    bars.tick_params(axis="y", length=0, labelcolor=sheet.ink, labelsize=8.5)
    axes.set(xticks=[], yticks=[])
    axes.margins(y=0.12)
    sheet.text(2.05, 3.05, "hidden states of the same requests")
    sheet.text(5.9, 3.05, "what the model does")
    return sheet


@cache
def _measured(n: int = 100) -> tuple[dict[str, Any], dict[str, tuple[float, float, float]]]:
    model, hook = _organism(), "blocks.3.hook_resid_post"
    shown = model.prepare(organism_suites("test", n=n)["harmful, blank"].prompts)
    recipe = ci.recipes.CMRM(alpha=0.375, steps="prefill").fit(model, organism_anchors())
    acting = recipe.interventions(model, shown)
    runs = {
        "as text": (shown.without_images(), []),
        "+ blank image": (shown, []),
        "+ image, CMRM": (shown, acting),
        "+ image, random": (shown, recipe.randomised(0).interventions(model, shown)),
    }
    found = {
        name: model.capture(inputs, hook, interventions=edits)[hook].float() for name, (inputs, edits) in runs.items()
    }
    base = found["as text"].mean(0)
    along = torch.nn.functional.normalize(found["+ blank image"].mean(0) - base, dim=0)
    rest = torch.cat([(s - base) - ((s - base) @ along)[:, None] * along for s in found.values()])
    across = torch.linalg.svd(rest - rest.mean(0), full_matrices=False)[2][0]
    states = {
        name: torch.stack([(s - base) @ along, (s - base) @ across], 1).numpy()
        for name, s in found.items()
        if "random" not in name
    }
    rates = {}
    for name, (inputs, edits) in runs.items():
        answers = model.generate(inputs, edits, max_new_tokens=24)
        k = sum(by_form(answer) == "complied" for answer in answers)
        rates[name] = (100 * k / n, *(100 * bound for bound in wilson(k, n)))
    return states, rates
