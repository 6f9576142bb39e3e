"""How models, hook points and prompts are shown in notebooks."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from cmrm_interp.errors import ImageError
from cmrm_interp.hooks import by_kind
from cmrm_interp.images import ImageSource, load_image
from cmrm_interp.markup import ROWS, SIDE, Markup, block, faint, folded, more, short, table, thumbnail
from cmrm_interp.prompts import Prompt

FEW = 4
"""Images of one prompt that are shown."""
T = TypeVar("T")


class Computed(Generic[T]):
    """A property that Jupyter looks into when TAB is pressed: it never runs those that are a `property`.

    Attributes:
        compute: what it is, of its owner.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, owner: Any, kind: type | None = None) -> T:
        return self if owner is None else self.compute(owner)  # type: ignore[return-value]

    def __set__(self, owner: Any, value: object) -> None:
        raise AttributeError(f"{self.compute.__name__!r} of a {type(owner).__name__} cannot be set")


def overview(model: Any) -> Markup:
    """A model: what it is, and its hook points by kind.

    Args:
        model: has ``hook_points``, ``n_heads``, ``encoder`` and ``hf``.
    """
    size = sum(parameter.numel() for parameter in model.hf.parameters())
    sight = "text and images" if model.encoder.can_see else "text alone"
    facts = f"{size:,} parameters, {model.n_heads} heads, {sight}, {str(model.hf.dtype)[6:]} on {model.hf.device}"
    points = table(("hook points", "layers"), kinds(model.hook_points).items())
    return block(repr(model), facts, folded(f"{len(model.hook_points)} hook points", points))


def kinds(names: Iterable[str]) -> dict[str, str]:
    """Kinds of hook points, with the layers at which each is: ``{"blocks.*.hook_resid_post": "0-5"}``."""
    return {kind: spans(layers) for kind, layers in by_kind(names).items()}


def spans(numbers: Iterable[int]) -> str:
    """Whole numbers in short: ``0-3, 7``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def tensors(summary: str, about: Mapping[str, object], column: str) -> Markup:
    """Values by hook point, hook points of one kind and value in one row.

    Args:
        summary: what they are, in a line.
        about: what is said of each hook point (its shape, a norm).
        column: what that is.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for name, value in about.items():
        alike.setdefault((next(iter(by_kind([name]))), str(value)), []).append(name)
    rows = [(names[0] if len(names) == 1 else kind, kinds(names)[kind], said) for (kind, said), names in alike.items()]
    shown = table(("hook point", "layers", column), rows[: 4 * ROWS])
    return block(summary, shown, more(len(rows) - 4 * ROWS, "rows"))


def prompts(summary: str, given: Iterable[Prompt], total: int) -> Markup:
    """The first prompts: thumbnails and texts.

    Args:
        summary: what they are, in a line.
        given: those that are shown.
        total: how many there are.
    """
    rows = [(row, pictures(prompt), words(prompt)) for row, prompt in enumerate(given)]
    return block(summary, table(("", "image", "prompt"), rows), more(total - len(rows), "prompts", ".prompts"))


def pictures(prompt: Prompt, side: int = SIDE) -> Markup:
    """Thumbnails of a prompt's first images.

    Args:
        prompt: with images or without.
        side: of a thumbnail, in pixels.
    """
    shown = [_picture(image, side) for image in prompt.images[:FEW]]
    left = len(prompt.images) - FEW
    return Markup(" ".join(shown + [faint(f"... {left} more")] * (left > 0)) or faint("text only"))


def words(prompt: Prompt) -> str:
    """The beginning of a prompt's text, and how many turns came before it."""
    turns = len(prompt.history)
    said = f"[after {turns} earlier turn{'s' * (turns > 1)}] " if turns else ""
    return said + short(prompt.text)


def _picture(image: ImageSource, side: int) -> Markup:
    try:
        return thumbnail(load_image(image), side)
    except ImageError as error:
        # The run says so as an error; to show inputs must not fail.
        return faint(f"[{error}]")
