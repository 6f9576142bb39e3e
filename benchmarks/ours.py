"""The gated shift on training seeds that its design never saw, beside CMRM, without each of its parts, and at random.

``python -m benchmarks.ours`` makes the table. The recipe was designed on the training seeds 0, 1 and 2 with validation
words; here every strength is chosen on the seed's own validation words under one budget, and the numbers are of test
words. An organism is trained when it is not there yet; a run that was stopped goes on where it was.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import cmrm_interp as ci
from benchmarks.safety import ALPHAS, BUDGET, NEW_TOKENS, organism, suites
from cmrm_interp.datasets.suites import organism_anchors
from cmrm_interp.errors import InputError
from cmrm_interp.judges import by_form
from cmrm_interp.recipes import CMRM, GatedShift, Recipe
from cmrm_interp.reports.report import Report

Arms = Callable[[ci.Model, Path], dict[str, Recipe | None]]

SEEDS = (3, 4, 5)
OURS = "gated shift"
SHOWN = {
    "harmful, real": ("unsafe", "neither"),
    "harmful, blank": ("unsafe", "neither"),
    "benign, real": ("over-refused", "neither", "right"),
    "questions, real": ("right",),
}
METRICS = ("unsafe", "neither", "over-refused", "right")
CMRMS: dict[str, Recipe] = {
    "CMRM, dataset level": CMRM(steps="prefill"),
    "CMRM, sample level": CMRM(level="sample", steps="prefill"),
}
# Each without one part; the last one without any is CMRM at the dataset level, applied incrementally.
WITHOUT: dict[str, Recipe] = {
    "without the gate": GatedShift(gate="none"),
    "without the reach": GatedShift(reach=None),
    "without the closed loop": GatedShift(loop="open"),
    "with both classes' shift": GatedShift(of="both"),
    "with a blank image's shift": GatedShift(image="blank"),
    "without edits of new tokens": GatedShift(later=0.0),
    "without any part": GatedShift(gate="none", loop="open", of="both", image="blank", later=0.0),
}
# Without a part the best strength may be another one.
WIDER = [0.25, 0.5, 0.75, 1.0, 1.25]


def main() -> None:
    """Train what is missing, choose, evaluate, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/ours"), help="folder of organisms, choices and logs")
    parser.add_argument("--n", type=int, default=300, help="prompts a suite")
    parser.add_argument("--seed", type=int, action="append", help="a training seed; again for several; 3, 4, 5 without")
    parser.add_argument("--no-parts", action="store_true", help="leave out the recipe without each of its parts")
    parser.add_argument("--table", type=Path, help="JSON file to write the numbers into")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asking = [against_cmrm] if asked.no_parts else [against_cmrm, without_parts]
    logs = [evaluated(seed, asked.out, asked.n, arms) for arms in asking for seed in asked.seed or SEEDS]
    report = Report.of(*logs)
    print(report.table().T.to_string())
    if asked.table:
        asked.table.write_text(json.dumps(numbers(report, asked.out), indent=1) + "\n", encoding="utf-8")


def evaluated(seed: int, out: Path, n: int, arms: Arms) -> Path:
    """The logs of some defences on one training seed.

    Args:
        seed: of the organism's training.
        out: folder of everything.
        n: prompts a suite.
        arms: which defences.
    """
    logs = out / "logs" / arms.__name__ / f"seed-{seed}"
    model = ci.load(organism(seed, out))
    defences = arms(model, out / "choices" / f"seed-{seed}")
    ci.evaluate(model, defences, suites("test", n), by_form, out=logs, max_new_tokens=NEW_TOKENS)
    model.close()
    return logs


def against_cmrm(model: ci.Model, choices: Path) -> dict[str, Recipe | None]:
    """No defence, CMRM, the gated shift, and a random vector of its norm behind its gate."""
    cmrms = {name: chosen(model, recipe, ALPHAS, choices / name) for name, recipe in CMRMS.items()}
    ours = chosen(model, GatedShift(), GatedShift.grid(model)["alpha"], choices / OURS)
    assert isinstance(ours, GatedShift)
    return {"no defence": None, **cmrms, OURS: ours, "random vector, gated": ours.randomised(0)}


def without_parts(model: ci.Model, choices: Path) -> dict[str, Recipe | None]:
    """The gated shift without each of its parts."""
    return {name: chosen(model, recipe, WIDER, choices / name) for name, recipe in WITHOUT.items()}


def chosen(model: ci.Model, recipe: Recipe, alphas: list[float], out: Path) -> Recipe:
    """The recipe at the strength that is safest within the budget; at the weakest where none keeps within it."""
    path = out.with_suffix(".safetensors")
    if path.exists():
        return Recipe.load(path)
    fitted = recipe.fit(model, organism_anchors(images=True))
    how: dict[str, Any] = {"judge": by_form, "out": out, "max_new_tokens": NEW_TOKENS}
    try:
        found = ci.choose(model, fitted, suites("validation", 150), {"alpha": alphas}, BUDGET, **how).recipe
    except InputError as error:
        if "keeps within the budget" not in str(error):
            raise
        found = replace(fitted, alpha=min(alphas))  # type: ignore[call-arg]
    found.save(path)
    return found


def numbers(report: Report, out: Path) -> dict[str, Any]:
    """What the notebook shows: shares with their intervals, tests against CMRM, strengths.

    Args:
        report: of all seeds.
        out: folder with the choices.
    """
    rates = [
        {**r.condition, "metric": r.metric, "value": r.value, "low": r.low, "high": r.high, "n": r.n}
        for r in report.records
        if r.metric in SHOWN.get(str(r.condition["suite"]), ())
    ]
    strengths = [
        {
            "checkpoint": file.parent.name,
            "defence": file.stem,
            "alpha": recipe.alpha,  # type: ignore[attr-defined]
            "within the budget": recipe.chosen_on is not None,
        }
        for file in sorted((out / "choices").glob("*/*.safetensors"))
        for recipe in [Recipe.load(file)]
    ]
    tests = [row for name in CMRMS for row in against(report, name)]
    return {"rates": rates, "strengths": strengths, "tests": tests}


def against(report: Report, baseline: str) -> list[dict[str, Any]]:
    """McNemar's tests of the gated shift against another defence, corrected for their number (Holm)."""
    pair = Report(tuple(answer for answer in report.answers if answer.defence in (OURS, baseline)))
    rows = pair.comparisons(baseline, metrics=METRICS).reset_index()
    return json.loads(str(rows.to_json(orient="records")))


if __name__ == "__main__":
    main()
