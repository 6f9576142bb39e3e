"""What is alike for all that are compared: anchors, suites, budget, judge and decoding."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cmrm_interp.arguments import check_arguments
from cmrm_interp.choose.budget import Budget
from cmrm_interp.choose.choosing import check_suites
from cmrm_interp.datasets.suites import Suite, organism_anchors, organism_suites
from cmrm_interp.errors import InputError, MismatchError, StoreError
from cmrm_interp.inputs import digest
from cmrm_interp.judges import ByText, Judge, TextJudge, as_judge, by_form
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.signature import Signer
from cmrm_interp.store import write_whole

HEADER, JUDGING = "plan.json", "judging"
SUITES = ("harmful, real", "harmful, blank", "benign, real", "questions, real")
"""Those of the organism's world that defences are compared on."""

VALIDATION, TEST = 150, 300
NEW_TOKENS = 24
"""Length of the organism's answers."""

OPTIONS = ("anchors", "validation", "test", "budget", "judge", "split", "n")


@dataclass(frozen=True, eq=False)
class Plan:
    """On what defences are compared.

    Attributes:
        anchors: that every recipe is fitted on, the same for all.
        validation: suites by name, on which settings are chosen.
        test: suites by name, on which numbers are reported.
        judge: of all answers.
        budget: what a chosen setting may cost.
        generation: how all answers are generated.
        split: what validation suites are that say no split of their own, in words.
    """

    anchors: Sequence[Prompt]
    validation: Mapping[str, Suite]
    test: Mapping[str, Suite]
    judge: Judge | TextJudge
    budget: Budget = field(default_factory=lambda: Budget(over_refusal=0.05, utility=0.05))
    generation: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None

    def __post_init__(self) -> None:
        """Refuse what nothing can be chosen or reported on, before a model is loaded.

        Raises:
            InputError: no test suites, validation suites of the test split, or one prompt in both.
        """
        check_suites(list(self.validation.values()), self.split)
        self.budget.check(list(self.validation.values()))
        if not self.test:
            raise InputError("nothing to compare on: give at least one test suite")
        _apart(self.validation, self.test)

    @property
    def timed(self) -> tuple[Prompt, ...]:
        """Prompts that costs are measured on: benign ones where there are any, whose answers are alike under all."""
        suites = sorted(self.validation.values(), key=lambda suite: suite.kind != "benign")
        return suites[0].prompts

    def about(self) -> dict[str, Any]:
        """What decides every number, as JSON."""
        judge = as_judge(self.judge)
        told = {
            "anchors": {"n": len(self.anchors), "hash": digest(marks(self.anchors))[:16]},
            "validation": {name: _about(suite) for name, suite in self.validation.items()},
            "test": {name: _about(suite) for name, suite in self.test.items()},
            "judge": judge.name,
            # Two functions may have one name, and a function may be changed.
            JUDGING: digest([Signer()(judge) if isinstance(judge, ByText) else judge.name]),
            "budget": self.budget.limits,
            "generation": dict(self.generation),
        }
        return json.loads(json.dumps(told, default=str))

    def claim(self, folder: Path) -> None:
        """Make a folder the one of this plan, or find that it is; other models and recipes may be added to it.

        Raises:
            MismatchError: it holds a comparison with another plan, or something else.
            StoreError: it cannot be written, or its plan cannot be read.
        """
        path, ours = folder / HEADER, self.about()
        if not path.exists():
            if folder.is_file() or (folder.exists() and any(folder.iterdir())):
                raise MismatchError(f"{folder} holds something else and no comparison: use an empty or new folder")
            write_whole(path, json.dumps(ours, indent=1).encode())
            return
        try:
            theirs = json.loads(path.read_bytes())
        except ValueError as error:
            raise StoreError(f"{path} is no plan of a comparison ({error}): use another folder") from error
        # Older plans do not say what their judge does.
        theirs = {JUDGING: ours[JUDGING], **theirs}
        differing = [name for name in ours if theirs.get(name) != ours[name]]
        if differing:
            raise MismatchError(
                f"{folder} holds a comparison with another plan: its {', '.join(differing)} differ; use another folder,"
                " or what was said then"
            )


def plan_of(organisms: bool, given: Mapping[str, Any], generation: Mapping[str, Any]) -> Plan:
    """A plan from what was said; for organisms the rest is of their world.

    Args:
        organisms: whether all models are organisms.
        given: some of `OPTIONS`.
        generation: arguments of `Model.generate`.

    Raises:
        InputError: something that models other than organisms need was not said, or cannot be.
    """
    check_arguments("compare", given, OPTIONS)
    said = {name: value for name, value in given.items() if value is not None}
    if "n" in said and not organisms:
        raise InputError("n= is how many prompts the organism's own suites have: give test suites that are as long")
    n = said.pop("n", TEST)
    if organisms:
        said = {**_of_organism(n, said), **said}
        generation = {"max_new_tokens": NEW_TOKENS, **generation}
    needed = [part.name for part in fields(Plan)][:4]
    missing = [name for name in needed if name not in said]
    if missing:
        raise InputError(f"nothing is known of {', '.join(missing)}: only organisms have their own; say {missing[0]}=")
    return Plan(**said, generation=dict(generation))


def _of_organism(n: int, said: Mapping[str, Any]) -> dict[str, Any]:
    made = {
        "anchors": lambda: organism_anchors(images=True),
        "validation": lambda: _some(organism_suites("validation", min(VALIDATION, n))),
        "test": lambda: _some(organism_suites("test", n)),
        "judge": lambda: by_form,
    }
    return {name: make() for name, make in made.items() if name not in said}


def _some(suites: Mapping[str, Suite]) -> dict[str, Suite]:
    return {name: suites[name] for name in SUITES}


def _apart(validation: Mapping[str, Suite], test: Mapping[str, Suite]) -> None:
    known = {mark for suite in validation.values() for mark in marks(suite.prompts)}
    for name, suite in test.items():
        if both := known.intersection(marks(suite.prompts)):
            raise InputError(
                f"{len(both)} prompts of the test suite {name!r} are among those that settings are chosen on: give"
                " other prompts to one of them"
            )


def _about(suite: Suite) -> dict[str, Any]:
    before = (repr((p.system, p.history)) for p in suite.prompts if p.system or p.history)
    asked = digest([suite.kind, suite.marking, *suite.ids, *marks(suite.prompts), *(suite.answers or ()), *before])
    return {"kind": suite.kind, "n": len(suite.prompts), "split": suite.split, "hash": asked[:16]}
