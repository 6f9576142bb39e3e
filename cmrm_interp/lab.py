"""A lab: a model with all that an experiment on defences needs, the same for the organism and for a real one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cmrm_interp.arguments import check_choice
from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.datasets.loading import load_suite
from cmrm_interp.datasets.suites import Suite, organism_anchors, organism_suites
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.images import ImageSource, load_image, meaningless
from cmrm_interp.judges import TextJudge, by_form, by_substrings
from cmrm_interp.model import Model, load
from cmrm_interp.prompts import Prompt
from cmrm_interp.specs import Spec

ORGANISM_TOKENS, TOKENS = 24, 64
BACKBONE = "backbone"


@dataclass(frozen=True, eq=False)
class Lab:
    """A model, prompts to fit on, prompts to measure on, and a judge.

    Attributes:
        model: the model.
        anchors: harmful and harmless requests with images; none of them is in a suite.
        suites: by name: ``harmful, text``, ``harmful, real``, ... ``benign, text``, ``benign, real``,
            ``questions, real``; as far as there is data for them.
        judge: of answers, by their text.
        max_new_tokens: of an answer.
    """

    model: Model
    anchors: Anchors
    suites: Mapping[str, Suite]
    judge: TextJudge
    max_new_tokens: int

    @cached_property
    def backbone(self) -> Model:
        """The language model before it met an image.

        Raises:
            ModelError: there is none beside the model.
        """
        folder = Path(self.model.name) / BACKBONE
        if not folder.is_dir():
            raise ModelError(f"{self.model.name} has no folder {BACKBONE!r}: load its language model with ci.load(...)")
        return load(str(folder))


def lab(
    source: str = "organism",
    data: Mapping[str, str] | None = None,
    *,
    n: int = 60,
    split: str = "validation",
    images: Sequence[str] = ("real", "blank"),
    **hf_kwargs: Any,
) -> Lab:
    """Everything that an experiment on defences needs, with one word to change for another model.

    Args:
        source: ``organism``, or the hub id or folder of a vision-language model.
        data: for another model than the organism: specs of suites (`cmrm_interp.datasets.load_suite`), by kind:
            ``{"harmful": "vlsafe:file=...,images=...", "benign": ..., "questions": ...}``; anchors are the anchor
            split of the harmful and the benign one. Prompts without an image are shown, where one is asked for, one
            of the harmful prompts'.
        n: prompts a suite, at most.
        split: of the suites, ``validation`` or ``test``.
        images: conditions of harmful requests beside text: ``real``, or kinds of meaningless images.
        **hf_kwargs: as `cmrm_interp.load` takes them.

    Raises:
        InputError: another split, or a model without data,
            data of a kind that there is not, or harmful or benign data missing.
    """
    check_choice("split", split, ("validation", "test"))
    if source == "organism":
        if data:
            raise InputError("the organism has its own data: leave data= out, or name another model")
        suites = organism_suites(split, n, images=images)  # type: ignore[arg-type]
        anchors = organism_anchors(images=True)
        return Lab(load(source, **hf_kwargs), anchors, suites, by_form, ORGANISM_TOKENS)
    missing = [kind for kind in ("harmful", "benign") if kind not in (data or {})]
    strange = sorted((data or {}).keys() - {"harmful", "benign", "questions"})
    if data is None or missing or strange:
        raise InputError(
            f"a lab of {source} needs your data: data={{'harmful': 'vlsafe:file=...,images=...', 'benign': ...,"
            f" 'questions': ...}}; {'there is no kind ' + repr(strange[0]) if strange else 'missing: ' + missing[0]}"
        )
    loaded = {kind: _load(spec, split, n) for kind, spec in data.items()}
    pool = [image for prompt in loaded["harmful"].prompts for image in prompt.images]
    if not pool:
        raise InputError("no harmful prompt has an image: name data with pictures (vlsafe:file=...,images=FOLDER)")
    harmful, harmless = (_shown(_load(data[kind], "anchor", None), "real", pool) for kind in ("harmful", "benign"))
    suites = {
        f"{kind}, {condition}": replace(_shown(suite, condition, pool), name=f"{kind}, {condition}")
        for kind, suite in loaded.items()
        for condition in _CONDITIONS.get(kind, ("text", *images))
    }
    anchors = Anchors(harmful.prompts, harmless.prompts)
    return Lab(load(source, **hf_kwargs), anchors, suites, by_substrings, TOKENS)


_CONDITIONS = {"benign": ("text", "real"), "questions": ("real",)}


def _load(spec: str, split: str, n: int | None) -> Suite:
    asked = Spec.parse(spec)
    limit = {} if n is None else {"limit": n}
    return load_suite(replace(asked, settings={**limit, **asked.settings, "split": split}))


def _shown(suite: Suite, condition: str, pool: Sequence[ImageSource]) -> Suite:
    """A suite under a condition: as text, with its images, or with meaningless ones of their sizes."""
    return replace(suite, prompts=tuple(_one(p, condition, row, pool) for row, p in enumerate(suite.prompts)))


def _one(prompt: Prompt, condition: str, row: int, pool: Sequence[ImageSource]) -> Prompt:
    if condition == "text":
        return prompt.with_image(None)
    real = prompt.images or (pool[row % len(pool)],)
    if condition == "real":
        return prompt.with_image(real)
    return prompt.with_image([meaningless(condition, load_image(image), row) for image in real])
