"""What a lens read: tables, tokens, pictures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.lens.places import EMBED, Places, hook_of, layer_numbers
from cmrm_interp.lens.readout import Readout
from cmrm_interp.lens.words import token_texts
from cmrm_interp.plots import over_image, word_grid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WIDEST = 40
"""Tokens whose words can be read in one figure."""
_LABELS = {
    "probability": "probability of the top token",
    "entropy": "entropy (nats)",
    "layer": "layer (-1: before block 0)",
    "at": "token",
}


@dataclass(frozen=True, eq=False)
class LensResult:
    """What a lens read at ``n`` tokens and every layer; made by `logit_lens`.

    Attributes:
        layers: numbers of blocks, -1 for the stream before the first.
        places: the tokens that were read: ``prompt``, ``position``, ``token``, ``image``, ``patch``.
        readout: what was read: ``top``, ``probability``, ``entropy``, ``rank``, ``asked``, with axes ``layer n``.
        asked: names of the tokens that were asked for.
        inputs: what was run.
        has_logits: whether all logits were kept.
    """

    layers: tuple[int, ...]
    places: Places
    readout: Readout
    asked: tuple[str, ...]
    inputs: Inputs
    has_logits: bool = False

    def __repr__(self) -> str:
        """Sizes, one line."""
        prompts = len(self.places.prompt.unique())
        return f"LensResult({len(self.places.prompt)} tokens of {prompts} prompts, {len(self.layers)} layers)"

    def table(self) -> "pd.DataFrame":
        """One row a layer and token.

        Returns:
            Columns ``prompt``, ``layer`` (-1: before block 0), ``position`` (number among the prompt's real tokens),
            ``token``, ``image`` and ``patch`` (numbers, -1 for text), ``top`` (the likeliest next token),
            ``probability`` of it, ``entropy`` (nats), and for each token that was asked for ``p(token)`` and
            ``rank(token)`` (1: the likeliest).
        """
        return self._frame(torch.arange(len(self.places.prompt)))

    def top(self, prompt: int = 0, layer: int | str = -1, position: int = -1) -> "pd.DataFrame":
        """The likeliest tokens at one place.

        Args:
            prompt: index of the prompt.
            layer: number of the block (negative ones count from the last), or ``"embed"``.
            position: number among the prompt's real tokens; -1 for the last that was read.

        Returns:
            Columns ``rank``, ``token``, ``id``, ``probability``.

        Raises:
            HookPointError: nothing was read there.
        """
        import pandas as pd

        mine = self._of(prompt)
        read = self.places.position[mine]
        here = mine[-1:] if position == -1 else mine[read == position]
        if not len(here):
            raise HookPointError(
                f"position {position} of prompt {prompt} was not read: there are {_few(read.tolist())}"
            )
        at = self._layer(layer), int(here[0])
        ids, probability = self.readout.top[at], self.readout.probability[at]
        return pd.DataFrame(
            {
                "rank": range(1, len(ids) + 1),
                "token": token_texts(self._tokenizer, ids),
                "id": ids.numpy(),
                "probability": probability.numpy(),
            }
        )

    def logits(self, layer: int | str = -1) -> Float[Tensor, "n vocab"]:
        """All logits at a layer, in the order of the table's rows; in the model's dtype.

        Raises:
            InputError: they were not kept.
            HookPointError: a layer that was not read.
        """
        if not self.has_logits:
            raise InputError("the logits were not kept: read again with logit_lens(..., keep_logits=True)")
        return self.readout.logits[self._layer(layer)]

    def plot(self, prompt: int = 0, value: str = "probability") -> "Figure":
        """Layers over tokens of one prompt, the likeliest next token in each cell.

        Args:
            prompt: index of the prompt.
            value: column of `table` that the colour says: ``"probability"``, ``"entropy"``, ``"p(token)"``, ...

        Raises:
            InputError: more tokens than can be read in one figure, or no such column.
            HookPointError: nothing was read of this prompt.
        """
        tokens = len(self._of(prompt))
        if tokens > WIDEST:
            raise InputError(
                f"{tokens} tokens are too many for one figure: read fewer, as with positions=slice(-10, None)"
            )
        frame = self._numbers(value, prompt)
        names = [f"{position} {token}" for position, token in zip(frame["position"], frame["token"], strict=True)]
        frame = frame.assign(at=names)
        return word_grid(frame, "at", "layer", value, "top", {**_LABELS, "at": f"token of prompt {prompt}"})

    def over_image(
        self, prompt: int = 0, layer: int | str = -1, value: str = "probability", image: int = 0
    ) -> "Figure":
        """The words that an image's patches turn into, over the image as the model sees it.

        Families that cut images into crops also see the whole picture, whose tokens are shown.

        Args:
            prompt: index of the prompt.
            layer: number of the block (negative ones count from the last), or ``"embed"``.
            value: column of `table` that the colour says.
            image: number of the image in its prompt.

        Raises:
            InputError: the tokens of this family's images have no places (Q-Formers, Mllama), or were not all read.
            HookPointError: a layer that was not read, or no image there.
        """
        frame, number = self._numbers(value, prompt), self.layers[self._layer(layer)]
        frame = frame[(frame["layer"] == number) & (frame["image"] == image)]
        if not len(frame):
            raise HookPointError(
                f"no token of image {image} of prompt {prompt} was read: use logit_lens(..., positions='image')"
            )
        grid = self.inputs.grid(prompt, image)
        rows, columns = grid.cells(frame["patch"].to_numpy())
        inside = frame.assign(row=rows, column=columns)[rows >= 0]
        if len(inside) < grid.rows * grid.columns:
            raise InputError(
                f"{len(inside)} of the {grid.rows * grid.columns} patches were read: use positions='image' for all"
            )
        where = "before block 0" if number == EMBED else f"after block {number}"
        return over_image(inside, grid.picture, value, "top", _LABELS, title=where)

    def _frame(self, chosen: Int[Tensor, " n"]) -> "pd.DataFrame":
        import pandas as pd

        at = {name: getattr(self.places, name)[chosen].numpy() for name in ("position", "image", "patch")}
        at["token"] = token_texts(self._tokenizer, self.places.token[chosen])
        at = {name: at[name] for name in ("position", "token", "image", "patch")}
        prompt = self.places.prompt[chosen].numpy()
        parts = [
            pd.DataFrame({"prompt": prompt, "layer": layer, **at, **self._read(number, chosen)})
            for number, layer in enumerate(self.layers)
        ]
        return pd.concat(parts, ignore_index=True)

    def _read(self, number: int, chosen: Int[Tensor, " n"]) -> dict[str, Any]:
        read = self.readout
        return {
            "top": token_texts(self._tokenizer, read.top[number, chosen, 0]),
            "probability": read.probability[number, chosen, 0].numpy(),
            "entropy": read.entropy[number, chosen].numpy(),
            **{f"p({name})": read.asked[number, chosen, i].numpy() for i, name in enumerate(self.asked)},
            **{f"rank({name})": read.rank[number, chosen, i].numpy() for i, name in enumerate(self.asked)},
        }

    @property
    def _tokenizer(self) -> Any:
        return self.inputs.encoder.tokenizer

    def _numbers(self, value: str, prompt: int) -> Any:
        frame = self._frame(self._of(prompt))
        numbers = [name for name in frame if name not in ("prompt", "layer", "token", "image", "patch", "top")]
        if value not in numbers:
            raise InputError(f"no column {value!r} to colour by: there are {', '.join(map(str, numbers))}")
        return frame

    def _layer(self, layer: int | str) -> int:
        wanted = layer_numbers(layer, self.inputs.encoder.config.get_text_config().num_hidden_layers)[0]
        if wanted not in self.layers:
            raise HookPointError(f"layer {layer!r} was not read: there are {_few([hook_of(n) for n in self.layers])}")
        return self.layers.index(wanted)

    def _of(self, prompt: int) -> Tensor:
        mine = (self.places.prompt == prompt).nonzero().flatten()
        if not len(mine):
            read = self.places.prompt.unique().tolist()
            raise HookPointError(f"no token of prompt {prompt!r} was read: there are prompts {_few(read)}")
        return mine


def _few(names: list[Any]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:4], "...", *shown[-2:]])
