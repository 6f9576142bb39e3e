"""Prompts with their images, and the answers before and after something is done to the model, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmrm_interp import displays
from cmrm_interp.errors import InputError
from cmrm_interp.images import load_image
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.markup import Markup, block, faint, more, short, table
from cmrm_interp.model import Model
from cmrm_interp.plots import gallery
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes import Recipe

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Acting = Recipe | Intervention | Sequence[Intervention]
"""What answers come from: a fitted recipe, an intervention, or several that act together."""

BEFORE, AFTER, ANSWER = "before", "after", "answer"
SIDE = 96


@dataclass(frozen=True, eq=False)
class Shown:
    """Prompts and their answers; made by `show`.

    Attributes:
        prompts: those that were answered.
        answers: one a prompt, by the name of the column: first what the model answers by itself.
        total: how many prompts there were.
    """

    prompts: tuple[Prompt, ...]
    answers: Mapping[str, tuple[str, ...]]
    total: int

    @property
    def changed(self) -> dict[str, int]:
        """How many answers of each other column are not those of the first."""
        (_, first), *others = self.answers.items()
        return {name: sum(a != b for a, b in zip(first, texts, strict=True)) for name, texts in others}

    def table(self) -> "pd.DataFrame":
        """One row a prompt: ``prompt``, ``images`` (how many), and a column of answers for each name."""
        import pandas as pd

        asked = {"prompt": [p.text for p in self.prompts], "images": [len(p.images) for p in self.prompts]}
        return pd.DataFrame({**asked, **{name: list(texts) for name, texts in self.answers.items()}})

    def plot(self, columns: int = 6) -> "Figure":
        """The pictures side by side, each under its number and the beginning of its prompt.

        Args:
            columns: pictures a row.

        Raises:
            InputError: no prompt has an image.
        """
        named = {
            f"{row}. {short(prompt.text, 40)}" + f" ({place})" * (place > 0): load_image(image)
            for row, prompt in enumerate(self.prompts)
            for place, image in enumerate(prompt.images)
        }
        if not named:
            raise InputError("none of these prompts has an image to plot: print the value, or use .table()")
        return gallery(named, columns)

    def __repr__(self) -> str:
        """Prompts and answers, one below another."""
        wide = max(map(len, self.answers)) + 1
        lines = []
        for row, prompt in enumerate(self.prompts):
            seen = {0: "", 1: " [1 image]"}.get(len(prompt.images), f" [{len(prompt.images)} images]")
            lines.append(f"{row}. {displays.words(prompt)}{seen}")
            lines += [f"   {name + ':':{wide}} {texts[row]}" for name, texts in self.answers.items()]
        return "\n".join([*lines, *filter(None, [self._left])])

    def _repr_html_(self) -> str:
        header = ("", "image", "prompt", *self.answers)
        rows = [
            (row, displays.pictures(prompt, SIDE), displays.words(prompt), *self._cells(row))
            for row, prompt in enumerate(self.prompts)
        ]
        counts = [f"{n} of {len(self.prompts)} answers are others {name}" for name, n in self.changed.items()]
        return block("; ".join(counts), table(header, rows), self._left)

    def _cells(self, row: int) -> list[str | Markup]:
        first, *others = (texts[row] for texts in self.answers.values())
        return [first, *(faint(text) if text == first else text for text in others)]

    @property
    def _left(self) -> str:
        return more(self.total - len(self.prompts), "prompts", "n= shows more")


def show(
    model: Model,
    inputs: Inputs,
    after: Acting | Mapping[str, Acting] = (),
    *,
    n: int = 8,
    max_new_tokens: int = 64,
    **generation: Any,
) -> Shown:
    """Images, prompts and answers side by side: as the model is, and after something is done to it.

    Args:
        model: the model.
        inputs: from its `prepare`.
        after: an intervention, several that act together, or a fitted recipe; or a mapping from names to those, for a
            column each. With nothing, the answers alone are shown.
        n: the first so many prompts are answered and shown, and no others. Directions with one vector a row need
            all rows of their inputs.
        max_new_tokens: of an answer.
        **generation: further arguments of `Model.generate`.

    Returns:
        A value that notebooks show as a table; ``.table()`` is a data frame of it, ``.plot()`` a figure.

    Raises:
        InputError: inputs without prompts, no row to show, or what is none of these.
    """
    columns = _columns(after)
    if n < 1:
        raise InputError(f"n={n}: show at least one prompt")
    prompts = inputs.prompts[:n]
    rows = inputs if n >= len(inputs) else model.prepare(prompts, padding_side=inputs.padding_side)
    how = {"max_new_tokens": max_new_tokens, **generation}
    answers = {name: tuple(_answers(model, rows, acting, how)) for name, acting in columns.items()}
    if any(len(texts) != len(prompts) for texts in answers.values()):
        raise InputError("show has one answer a prompt: leave num_return_sequences out")
    return Shown(prompts, answers, len(inputs))


def _columns(after: Acting | Mapping[str, Acting]) -> dict[str, Acting]:
    if isinstance(after, Mapping):
        if BEFORE in after:
            raise InputError(f"{BEFORE!r} is the column of the model as it is: choose another name")
        named = {str(name): acting for name, acting in after.items()}
    else:
        named = {AFTER: after} if isinstance(after, Recipe | Intervention) or len(after) else {}
    for name, acting in named.items():
        if not isinstance(acting, Recipe | Intervention | Sequence) or isinstance(acting, str):
            raise InputError(
                f"{name}: {type(acting).__name__} is no intervention, list of interventions or fitted recipe"
            )
    return {BEFORE: (), **named} if named else {ANSWER: ()}


def _answers(model: Model, inputs: Inputs, acting: Acting, how: Mapping[str, Any]) -> list[str]:
    if isinstance(acting, Recipe):
        return acting.generate(model, inputs, **how)
    return model.generate(inputs, acting, **how)
