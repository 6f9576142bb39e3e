"""Measuring candidates on suites: what each answers, judged and counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.choose.candidates import Candidate
from cmrm_interp.choose.counts import Counts
from cmrm_interp.datasets.marking import marker
from cmrm_interp.datasets.suites import Suite
from cmrm_interp.evaluation.utility import acts_inside
from cmrm_interp.judges import VERDICTS, Exchange, Judge
from cmrm_interp.metrics import Metric, Needs, Seen
from cmrm_interp.model import Model
from cmrm_interp.recipes import Recipe
from cmrm_interp.records import append, rate, read
from cmrm_interp.specs import slug
from cmrm_interp.sweeps import SweepResult, sweep

RECORDS = "answered.jsonl"
# With these alone decoding is greedy, and candidates can share the run of the prompt.
_GREEDY = frozenset({"max_new_tokens", "batch_size", "seed"})


@dataclass(frozen=True, eq=False)
class Bench:
    """On what candidates are measured.

    Attributes:
        model: the model.
        suites: of prompts.
        judge: of the answers.
        generation: as `Model.generate` takes it.
        out: folder where what is known goes at once, or None.
    """

    model: Model
    suites: Sequence[Suite]
    judge: Judge
    generation: Mapping[str, Any]
    out: Path | None = None

    def measure(self, candidates: Sequence[Candidate]) -> list[dict[str, Counts]]:
        """Counts by suite: of the model as it is, and of each candidate.

        Candidates that are interventions alone are swept together, with the run of each prompt shared; others answer
        one after another. What the folder has already is not run again.
        """
        inside = all(acts_inside(candidate.recipe) for candidate in candidates)
        together = inside and self.generation.keys() <= _GREEDY
        found: list[dict[str, Counts]] = [{} for _ in range(len(candidates) + 1)]
        with tqdm(self.suites, desc="choose", unit="suite", delay=1) as bar:
            for suite in bar:
                bar.set_postfix_str(suite.name)
                counts = self._swept(suite, candidates) if together else self._answered(suite, candidates)
                for row, one in zip(found, counts, strict=True):
                    row[suite.name] = one
        return found

    def _swept(self, suite: Suite, candidates: Sequence[Candidate]) -> list[Counts]:
        metrics = [_Verdict(Judged(suite, self.judge), self.generation["max_new_tokens"])]
        right = [_Right(suite, self.generation["max_new_tokens"])] if suite.answers is not None else []
        result = sweep(
            self.model,
            self.model.prepare(suite.prompts),
            {"candidate": {candidate.name: candidate.recipe for candidate in candidates}},
            lambda candidate: candidate,
            [*metrics, *right],
            store=None if self.out is None else self.out / slug(suite.name),
            batch_size=self.generation.get("batch_size", "auto"),
        )
        codes = _with_clean(result, "verdict")
        marks = _with_clean(result, "right").astype(bool).tolist() if right else [[]] * len(codes)
        said = [[VERDICTS[int(code)] for code in row] for row in codes]
        return [Counts.of(*pair) for pair in zip(said, marks, strict=True)]

    def _answered(self, suite: Suite, candidates: Sequence[Candidate]) -> list[Counts]:
        known = self._known(suite)
        judged, inputs = Judged(suite, self.judge), self.model.prepare(suite.prompts)
        recipes = {"none": None, **{candidate.name: candidate.recipe for candidate in candidates}}
        for name, recipe in tqdm(recipes.items(), desc=suite.name, unit="candidate", delay=1, leave=False):
            if name not in known:
                known[name] = _counts(judged, self._answers(recipe, inputs))
                self._note(suite, name, known[name])
        return [known[name] for name in recipes]

    def _answers(self, recipe: Recipe | None, inputs: Any) -> list[str]:
        if recipe is None:
            return self.model.generate(inputs, **self.generation)
        return recipe.generate(self.model, inputs, **self.generation)

    def _known(self, suite: Suite) -> dict[str, Counts]:
        path = None if self.out is None else self.out / RECORDS
        rows: dict[str, dict[str, int]] = {}
        for record in read(path) if path is not None and path.exists() else []:
            if record.condition["suite"] == suite.name:
                rows.setdefault(str(record.condition["candidate"]), {})[record.metric] = round(record.value * record.n)
        n = len(suite.prompts)
        # The last line of a candidate says that all of it is there.
        return {name: Counts(n, row, row.pop("right")) for name, row in rows.items() if "right" in row}

    def _note(self, suite: Suite, name: str, counts: Counts) -> None:
        if self.out is None:
            return
        condition = {"suite": suite.name, "candidate": name}
        rows = [*counts.verdicts.items(), ("right", counts.right)]
        append(self.out / RECORDS, [rate(condition, metric, count, counts.n) for metric, count in rows])


@dataclass(frozen=True, eq=False)
class Judged:
    """A suite whose answers are judged, equal answers to a prompt once.

    Attributes:
        suite: of the prompts.
        judge: of the answers.
    """

    suite: Suite
    judge: Judge
    _known: dict[tuple[int, str], str] = field(default_factory=dict)

    def verdicts(self, answers: Sequence[str], first: int = 0) -> list[str]:
        """The verdict on each answer.

        Args:
            answers: to prompts that stand one after another.
            first: row of the first.
        """
        keys = list(enumerate(answers, first))
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if new:
            judgements = self.judge.judge([self._exchange(row, answer) for row, answer in new])
            self._known.update((key, one.verdict) for key, one in zip(new, judgements, strict=True))
        return [self._known[key] for key in keys]

    def right(self, answers: Sequence[str], first: int = 0) -> list[bool]:
        """Whether each answer is right; nothing for a suite without right answers."""
        return _marked(self.suite, answers, first)

    def _exchange(self, row: int, answer: str) -> Exchange:
        prompt, reference = self.suite.prompts[row], None if self.suite.answers is None else self.suite.answers[row]
        return Exchange(prompt.text, answer, prompt.images, reference, self.suite.about[row])


def _with_clean(result: SweepResult, metric: str) -> np.ndarray:
    """Values of the model as it is and of each candidate, ``candidate prompt``."""
    return np.concatenate([result.values(metric, clean=True)[:1], result.values(metric)])


def _counts(judged: Judged, answers: Sequence[str]) -> Counts:
    return Counts.of(judged.verdicts(answers), judged.right(answers))


def _marked(suite: Suite, answers: Sequence[str], first: int) -> list[bool]:
    if suite.answers is None:
        return []
    is_right, wanted = marker(suite.marking), suite.answers[first : first + len(answers)]
    return [bool(is_right(answer, right)) for answer, right in zip(answers, wanted, strict=True)]


@dataclass(frozen=True)
class _Verdict(Metric):
    """The number of each answer's verdict among all that there are."""

    judged: Judged
    max_new_tokens: int
    name: str = "verdict"

    @property
    def needs(self) -> Needs:
        """Answers, this long."""
        return Needs(new_tokens=self.max_new_tokens)

    def measure(self, seen: Seen) -> Float[Tensor, " batch"]:
        """The verdict of each answer, as its place among all verdicts."""
        answers, first = _said(seen, self.max_new_tokens)
        return torch.tensor([float(VERDICTS.index(one)) for one in self.judged.verdicts(answers, first)])


@dataclass(frozen=True)
class _Right(Metric):
    """1 for a right answer."""

    suite: Suite
    max_new_tokens: int
    name: str = "right"

    @property
    def needs(self) -> Needs:
        """Answers, this long."""
        return Needs(new_tokens=self.max_new_tokens)

    def measure(self, seen: Seen) -> Float[Tensor, " batch"]:
        """Which answers are right."""
        return torch.tensor([float(one) for one in _marked(self.suite, *_said(seen, self.max_new_tokens))])


def _said(seen: Seen, n: int) -> tuple[list[str], int]:
    assert seen.answer is not None
    assert seen.tokens is not None
    return seen.answer(n), seen.tokens.first
