"""Which modules a variant's pass can leave out, because they would return what they return in the clean model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cmrm_interp.encoding import Batch
from cmrm_interp.families.maps import Point
from cmrm_interp.tracing import Location, Network, is_within
from cmrm_interp.variants.clean import copied
from cmrm_interp.variants.reach import Variant

# Share of a pass that the vision side is taken to be; it differs from model to model.
_SEEING = 0.25


@dataclass(frozen=True)
class Route:
    """A variant's pass: modules that are left out, and the first hook point that it edits.

    Attributes:
        variant: the variant.
        seeing: modules of the vision side that are left out, in forward order.
        blocks: blocks of the decoder that are left out, from the first on.
        parts: attention, or attention and MLP, of the block behind these that are left out.
        saved: share of a pass that this saves.
        clean: hook points that are met before the first edit, or all of them.
    """

    variant: Variant
    seeing: tuple[str, ...]
    blocks: tuple[str, ...]
    parts: tuple[str, ...]
    saved: float
    clean: frozenset[str]

    @property
    def needs(self) -> tuple[str, ...]:
        """Modules whose clean outputs it starts from."""
        return self.seeing + self.blocks[-2:] + self.parts


@dataclass(frozen=True)
class Map:
    """The modules of a model that a pass over a batch goes through and could leave out.

    Attributes:
        network: the model.
        batch: the rows.
    """

    network: Network
    batch: Batch

    def route(self, variant: Variant) -> Route:
        """What a variant can leave out."""
        names, edited = self.network.names(self.batch.tensors), variant.changed(self.network)
        if not edited:
            return Route(variant, (), (), (), 1.0, frozenset(names))
        first = next(number for number, name in enumerate(names) if name in edited)
        places = self.network.plan(edited, self.batch.tensors)
        blocks, parts = (), ()
        if not self._before(places):
            blocks = tuple(_untouched(self.blocks, places))
            parts = tuple(self._parts(len(blocks), first, places))
        seeing = tuple(self._unseen(places))
        saved = (len(blocks) + len(parts) / 2) / len(self.blocks) + (_SEEING if seeing else 0.0)
        return Route(variant, seeing, blocks, parts, saved, frozenset(names[:first]))

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """Blocks of the decoder, but those that a batch without images goes past."""
        sees = self.network.has_images(self.batch.tensors)
        return tuple(block.path for block in self.network.blocks if sees or not block.kind.cross)

    @cached_property
    def tower(self) -> tuple[str, ...]:
        """Blocks of the vision tower."""
        paths = {name: point.module for name, point in self.network.points.items() if name.startswith("vision.blocks.")}
        return tuple(path for name, path in paths.items() if name.endswith(".hook_resid_pre"))

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Tower, Q-Former and projector: the largest modules that hold none of the decoder."""
        if not self.network.has_images(self.batch.tensors):
            return ()
        seeing = [p for p in self.network.points.values() if p.is_vision and not p.by_prompt]
        return tuple(dict.fromkeys(self._largest(point.module) for point in seeing))

    def _largest(self, module: str) -> str:
        names = module.split(".")
        paths = [".".join(names[: n + 1]) for n in range(len(names))]
        return next(path for path in paths if not is_within(self.blocks[0], path))

    def _before(self, places: Sequence[Location]) -> bool:
        """Whether the decoder's first block is given something else, or all blocks are bound together."""
        # Later layers borrow keys and values from earlier ones, which have to run for that (Gemma 4).
        borrowed = getattr(self.network.hf.config.get_text_config(), "num_kv_shared_layers", 0)
        order = {name: number for number, name in enumerate(self.network.names(self.batch.tensors))}
        starts = [n for name, n in order.items() if is_within(self.network.points[name].module, self.blocks[0])]
        return bool(borrowed) or order[places[0].points[0].name] < min(starts)

    def _parts(self, number: int, first: int, places: Sequence[Location]) -> Iterator[str]:
        """Attention and MLP of a block, as far as they end before the first edit."""
        points = [self.network.points[name] for name in self.network.names(self.batch.tensors)]
        block = next((block for block in self.network.blocks if block.path in self.blocks[number : number + 1]), None)
        for path in () if block is None else (block.at(block.kind.attn), block.at(block.kind.mlp)):
            inner = [n for n, point in enumerate(points) if _is_inside(point, path)]
            if not inner or first < max(inner) or any(_is_inside(place, path) for place in places):
                return
            yield path

    def _unseen(self, places: Sequence[Location]) -> Iterator[str]:
        touched = [place for place in places if any(point.is_vision for point in place.points)]
        for part in self.parts:
            if not _inside(part, touched):
                yield part
                continue
            if any(_is_inside(place, part) for place in touched):
                yield from _untouched([path for path in self.tower if is_within(path, part)], touched)
            else:
                yield part
            return


def skips_of(route: Route, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Modules that a variant's pass leaves out, with what they are taken to return.

    Args:
        route: of the variant.
        raw: what the modules that it needs returned in the clean model.
    """
    found = {path: copied(raw[path]) for path in route.needs}
    # Of the decoder's blocks only the last one's output is used, and its input where it is looked at.
    below = route.blocks[:-2]
    return found | dict.fromkeys(below, copied(raw[route.blocks[-1]]) if below else None)


def _untouched(modules: Sequence[str], places: Sequence[Location]) -> Iterator[str]:
    for path in modules:
        inside = [place for place in places if is_within(place.module, path)]
        if not inside:
            yield path
            continue
        if not any(_is_inside(place, path) for place in inside):
            yield path
        return


def _is_inside(place: Location | Point, path: str) -> bool:
    """Whether a place is only met while a module runs; what it returns is met even if it is left out."""
    return is_within(place.module, path) and (place.module, place.side) != (path, "output")


def _inside(path: str, places: Sequence[Location]) -> bool:
    return any(is_within(place.module, path) for place in places)
