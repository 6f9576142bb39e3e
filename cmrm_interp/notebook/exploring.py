"""An explorer: layers, strength and position of a steering vector under sliders, and the answer below them."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from cmrm_interp import displays
from cmrm_interp.directions import Directions
from cmrm_interp.errors import CmrmError, InputError, MismatchError
from cmrm_interp.hooks import layer_of, stack_of
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention, Subtract
from cmrm_interp.markup import Markup, block, bold, faint, table
from cmrm_interp.model import Model
from cmrm_interp.notebook.debounce import Debounced

Kind = Callable[[Directions, float, str, tuple[int, ...]], Intervention]
"""`Add`, `Subtract`, `ProjectOut`, or any function of the same four arguments."""

POSITIONS = ("last", "all", "prompt", "image", "text", "generated")
WAIT, SIDE = 0.25, 128


class Explorer:
    """Sliders, and what the model answers; made by `explore`.

    Attributes:
        model, inputs, directions, kind: what is explored.
        prompt, layers, alpha, position: the widgets; set their ``.value`` to move them from code.
        before, after: the two answers that are shown; `after` is "" where there is an error.
        problem: what is wrong, in words; "" where nothing is.
    """

    def __init__(self, model: Model, inputs: Inputs, directions: Directions, kind: Kind) -> None:
        """Wrap what is explored (use `explore`)."""
        self.model, self.inputs, self.directions, self.kind = model, inputs, directions, kind
        self.before = self.after = self.problem = ""
        self._clean: dict[int, str] = {}

    def build(self, alphas: tuple[float, float], how: dict[str, Any]) -> None:
        """Make the widgets.

        Args:
            alphas: ends of the slider of alpha.
            how: arguments of `Model.generate`.
        """
        import ipywidgets as widgets

        low, high = alphas
        wide = {"layout": widgets.Layout(width="28em"), "style": {"description_width": "5em"}}
        layers, last = layers_of(self.directions), len(self.inputs) - 1
        self.prompt = widgets.IntSlider(0, 0, max(last, 1), description="prompt", disabled=last == 0, **wide)
        self.layers = widgets.SelectionRangeSlider(
            options=layers, index=(0, len(layers) - 1), description="layers", disabled=len(layers) == 1, **wide
        )
        start, step = min(max(0.0, low), high), (high - low) / 40
        self.alpha = widgets.FloatSlider(start, min=low, max=high, step=step, description="alpha", **wide)
        self.position = widgets.Dropdown(options=POSITIONS, description="position", **wide)
        self._how, self._view, self._log = how, widgets.HTML(), widgets.Output()
        later = Debounced(self.update, WAIT)
        for widget in (self.prompt, self.layers, self.alpha, self.position):
            widget.observe(later, "value")
        controls = [self.prompt, self.layers, self.alpha, self.position]
        self.widget = widgets.VBox([*controls, self._view, self._log])

    @property
    def intervention(self) -> Intervention:
        """What the sliders say, for use in code."""
        low, high = self.layers.value
        chosen = tuple(layer for layer in layers_of(self.directions) if low <= layer <= high)
        return self.kind(self._own_direction(), self.alpha.value, str(self.position.value), chosen)

    def update(self) -> None:
        """Answer again, and show it; what the package refuses is said in words."""
        # Any other error is shown below, with its traceback: a timer has no cell in which it could be.
        with self._log:
            self._draw("...")
            row = self.prompt.value
            inputs = self.model.prepare([self.inputs.prompts[row]])
            self.after, self.problem = "", ""
            try:
                if row not in self._clean:
                    self._clean[row] = self.model.generate(inputs, **self._how)[0]
                self.before = self._clean[row]
                self.after = self.model.generate(inputs, self.intervention, **self._how)[0]
            except CmrmError as error:
                self.problem = str(error)
            self._draw(self.problem)

    def __repr__(self) -> str:
        """Where the sliders stand and what was answered."""
        low, high = self.layers.value
        where = f"prompt {self.prompt.value}, layers {low}-{high}, alpha {self.alpha.value:g}, {self.position.value!r}"
        return f"Explorer({where}; before: {self.before!r}; after: {self.problem or self.after!r})"

    def _repr_mimebundle_(self, **how: Any) -> Any:
        return self.widget._repr_mimebundle_(**how)

    def _draw(self, note: str) -> None:
        prompt = self.inputs.prompts[self.prompt.value]
        other = self.after if self.after != self.before else faint(self.after)
        cells = (displays.pictures(prompt, SIDE), displays.words(prompt), self.before, other)
        said = bold(note) if self.problem else Markup(faint(note or _said(self.intervention)))
        self._view.value = block(table(("image", "prompt", "before", "after"), [cells]), said)

    def _own_direction(self) -> Directions:
        if self.directions.rows != "batch":
            return self.directions
        row = self.prompt.value
        return self.directions.map(lambda tensor, _: tensor[row : row + 1])


def explore(
    model: Model,
    inputs: Inputs,
    directions: Directions,
    intervention: Kind = Subtract,
    *,
    alphas: tuple[float, float] = (0.0, 2.0),
    max_new_tokens: int = 24,
) -> Explorer:
    """Sliders for layers, alpha, position and prompt, with the answers before and after below them.

    For notebooks with widgets (JupyterLab, VS Code, Colab). The answer is made again when the sliders rest;
    ``.intervention`` is what they stand for.

    Args:
        model: the model.
        inputs: prompts to choose from.
        directions: by layer of the decoder; one vector a layer, or one a row of the inputs.
        intervention: `Subtract`, `Add`, `ProjectOut`, or a function (directions, alpha, positions, layers) of your own.
        alphas: ends of alpha's slider.
        max_new_tokens: of an answer.

    Raises:
        ModuleNotFoundError: ipywidgets is not installed.
        InputError: inputs without prompts, ends in the wrong order, or directions outside the decoder's layers.
        MismatchError: directions for another number of rows.
    """
    if find_spec("ipywidgets") is None:
        raise ModuleNotFoundError('ci.explore needs ipywidgets: pip install "cmrm-interp[notebooks]"')
    if not alphas[0] < alphas[1]:
        raise InputError(f"alphas={alphas}: give the lower end first, and a higher one")
    rows = {tensor.shape[0] for tensor in directions.values()} if directions.rows == "batch" else set()
    if rows - {len(inputs)}:
        raise MismatchError(f"directions for {rows.pop()} rows and inputs of {len(inputs)} rows")
    assert inputs.prompts
    layers_of(directions)
    made = Explorer(model, inputs, directions, intervention)
    made.build(alphas, {"max_new_tokens": max_new_tokens})
    made.update()
    return made


def layers_of(directions: Directions) -> list[int]:
    """Layers of the decoder that directions are for.

    Raises:
        InputError: there are none.
    """
    found = {layer for name in directions if stack_of(name) == "blocks" and (layer := layer_of(name)) is not None}
    if not found:
        raise InputError(f"no direction lies at a layer of the decoder: they are at {', '.join(list(directions)[:3])}")
    return sorted(found)


def _said(intervention: Intervention) -> str:
    shown = ("alpha", "positions", "layers")
    parts = [f"{name}={value!r}" for name in shown if (value := getattr(intervention, name, None)) is not None]
    return f"{type(intervention).__name__}(directions, {', '.join(parts)})"
