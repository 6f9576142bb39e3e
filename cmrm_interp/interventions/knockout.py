"""Knockout: attention cut from some tokens to others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from cmrm_interp.axes import Bool, Float, Tensor
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.hooks import check_layers, layer_of, stack_sizes
from cmrm_interp.interventions.base import Chosen, Intervention, Step, freeze_layers
from cmrm_interp.positions import Position, as_selector, check_position, simple

_POINT = ".attn.hook_attn_scores"


@dataclass(frozen=True)
class Knockout(Intervention):
    """Cut attention from some tokens to others (Geva et al. 2023, arXiv 2304.14767, section 3).

    Scores from every query to every key that is cut become minus infinity before the softmax, which so shares all
    attention out among the keys that are left. A token is a query, and a key, if the position means it in the pass
    over it: with ``queries="last", keys="image"`` the prompt's last token and every new one lose sight of the image.
    A token is a key of itself, too. Prompts without such tokens stay as they are.

    Needs attention weights: load the model with ``attn_implementation="eager"``.

    Attributes:
        queries: tokens that attend.
        keys: tokens that they no longer attend to.
        layers: as in `Add`; None for every layer.
        heads: numbers of heads, negative ones counted from the last; None for all.
    """

    queries: Position
    keys: Position
    layers: int | Iterable[int] | None = None
    heads: int | Iterable[int] | None = None

    def __post_init__(self) -> None:
        """Refuse positions, layers and heads that mean nothing."""
        check_position(self.queries)
        check_position(self.keys)
        freeze_layers(self)
        heads = (self.heads,) if isinstance(self.heads, int) else self.heads
        object.__setattr__(self, "heads", None if heads is None else tuple(heads))
        if self.heads == ():
            raise InputError("Knockout: heads is empty: leave it out for every head, or name at least one")

    @property
    def positions(self) -> Position:  # type: ignore[override]
        """The tokens whose attention changes."""
        return self.queries

    @property
    def by_token(self) -> bool:
        """True: what is cut for a token depends on that token and its keys alone."""
        return True

    @property
    def asked(self) -> tuple[Position, ...]:
        """Queries and keys."""
        return self.queries, self.keys

    def targets(self, names: Sequence[str]) -> list[str]:
        """Attention scores of the chosen layers.

        Raises:
            HookPointError: layers that attend to the image in another way, or whose scores cannot be changed.
        """
        n_layers = stack_sizes(names).get("blocks", 0)
        layers = check_layers(self.layers, n_layers) or range(n_layers)
        check_cross(names, layers, self.asked)
        points = {f"blocks.{layer}{_POINT}": str(layer) for layer in layers}
        lacking = [layer for point, layer in points.items() if point not in names]
        if lacking:
            raise HookPointError(
                f"attention cannot be cut at layers {', '.join(lacking)}: their scores cannot be changed (there is no"
                f" 'blocks.{lacking[0]}{_POINT}'); choose other layers=, or Ablate 'blocks.{lacking[0]}.hook_attn_out'"
            )
        return [name for name in names if name in points]

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """There is none: what is cut depends on pairs of tokens.

        Raises:
            InputError: always.
        """
        raise InputError(
            "a Knockout cuts pairs of tokens and cannot be inside a Gate, which looks at one token at a time: choose"
            " prompts before the run instead"
        )

    def apply(self, activation: Tensor, hook: str, step: Step) -> Tensor:
        """The scores with those that are cut at minus infinity; the old tensor if none is.

        Args:
            activation: scores ``batch head query key``; queries are the last columns of the pass.
            hook: hook point.
            step: the pass.
        """
        cut = self._cut(step, activation.shape[2], activation.shape[3], activation.device)
        if cut is None:
            return activation
        chosen = _heads(self.heads, activation.shape[1])  # type: ignore[arg-type]
        _check_left(activation[:, chosen], cut, hook, step)
        out = activation.clone()
        out[:, chosen] = activation[:, chosen].masked_fill(cut, -torch.inf)
        return out

    def _cut(
        self, step: Step, width: int, n_keys: int, device: torch.device
    ) -> Bool[Tensor, "batch 1 query key"] | None:
        def _find() -> Tensor | None:
            queries = as_selector(self.queries).mask(step.tokens)[:, -width:]
            if not bool(queries.any()):
                return None
            keys = _fitted(step.so_far(self.keys), n_keys)
            return (queries[:, :, None] & keys[:, None, :])[:, None].to(device) if bool(keys.any()) else None

        return step.once(("knockout", *map(as_selector, self.asked), width, n_keys, device), _find)


def check_cross(names: Sequence[str], layers: Iterable[int], positions: Sequence[Position]) -> None:
    """Refuse layers in which tokens attend to patches by cross-attention, and an image that is seen so.

    Args:
        names: hook points of the model.
        layers: those in which attention between tokens is asked for.
        positions: queries and keys.

    Raises:
        HookPointError: such a layer, or "image" as a position in a model that has some.
    """
    cross = sorted({layer for name in names if ".cross_attn." in name and (layer := layer_of(name)) is not None})
    if not cross or not ("image" in map(simple, positions) or set(cross) & set(layers)):
        return
    shown = ",".join(map(str, cross))
    raise HookPointError(
        f"layers {shown} of this model attend to the image by cross-attention, in which no token stands for a piece of"
        f" it: cut the image off by Ablate('blocks.{{{shown}}}.hook_attn_out'); for attention between tokens of text"
        " name the other layers in layers="
    )


def _fitted(keys: Bool[Tensor, "batch pos"], n: int) -> Bool[Tensor, "batch key"]:
    # A layer with a sliding window keeps the last keys alone; a static cache has room for keys that are to come.
    return torch.nn.functional.pad(keys, (0, max(0, n - keys.shape[1])))[:, -n:]


def _heads(heads: Sequence[int] | None, n: int) -> list[int]:
    if heads is None:
        return list(range(n))
    for head in heads:
        if isinstance(head, bool) or not isinstance(head, int) or not -n <= head < n:
            raise HookPointError(f"no head {head!r}: these layers have {n} heads (0-{n - 1})")
    return sorted({head % n for head in heads})


def _check_left(
    scores: Float[Tensor, "batch head query key"], cut: Bool[Tensor, "batch 1 query key"], hook: str, step: Step
) -> None:
    width = scores.shape[2]
    columns = cut.any(-1).flatten(0, 1).any(0).nonzero().flatten()
    scores, cut = scores[:, :, columns], cut[:, :, columns]
    # Masked scores are about as low as numbers go. Where nothing is left, softmax would share attention out evenly.
    seen = scores > torch.finfo(scores.dtype).min / 2
    blind = (seen.any(-1) & ~(seen & ~cut).any(-1)).any(1)
    if not bool(blind.any()):
        return
    row, number = (int(part) for part in blind.nonzero()[0])
    column = int(columns[number]) - width
    if step.number:
        which = f"new token {step.number - 1}"
    else:
        which = f"token {int(step.tokens.real[row].cumsum(0)[column]) - 1}"
    raise InputError(
        f"Knockout leaves {which} of row {int(step.rows[row])} no key at {hook!r}: a token sees only itself and what is"
        " before it, and is a key of itself; leave some of these out of keys=, or that token out of queries="
    )
