"""The only place that builds or opens anything of nnsight's: one forward or one generation, visited.

A *visit* is a function of an activation and the step's number. It is called when the model reaches a
hook point, and what it returns takes the activation's place. Everything above this module (capture,
interventions, sweeps) is made of visits, so nobody ever writes a trace, and notebook cells, threads
and ``exec`` work as plain scripts do.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

# nnsight mounts an attribute on ``object``; beartype must have been imported before, if at all.
import nnsight
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor

from cmrm_interp.errors import HookPointError, ModelError
from cmrm_interp.families.maps import FamilyMap, Point
from cmrm_interp.families.order import observed_order, prefill_order
from cmrm_interp.families.points import blocks_of, hook_points, layer_of, points_without_image
from cmrm_interp.families.views import AttentionCall, Both, Frame

Visit = Callable[[Tensor, int], Tensor | None]


@dataclass(frozen=True)
class Location:
    """One side of one module, with the hook points that are seen there; or a module that is skipped.

    Attributes:
        module: its path.
        side: as of a point, or ``"skip"``.
        points: hook points that are seen there.
        returned: what a skipped module is taken to return.
    """

    module: str
    side: str
    points: tuple[Point, ...]
    returned: Any = None


class Network:
    """A Hugging Face model under nnsight, with its hook points.

    Attributes:
        hf: the Hugging Face model.
        family: its map.
        points: hook points by name, in forward order.
        modules: its modules by path.
        blocks: blocks of the decoder.
    """

    def __init__(self, hf: Any, family: FamilyMap, envoy: Any = None) -> None:
        """Wrap a model.

        Args:
            hf: the Hugging Face model; set to evaluation mode.
            family: its map.
            envoy: nnsight's wrapper of it, where there is one.
        """
        self.hf = hf.eval()
        self.family = family
        self.points = {point.name: point for point in hook_points(family, hf)}
        self.modules = dict(hf.named_modules())
        self.blocks = blocks_of(family, hf, self.modules)
        self._text_points = {point.name: point for point in points_without_image(family, self.blocks, self.points)}
        self._prefill: list[str] | None = None
        self._envoy: Any = nnsight.NNsight(hf) if envoy is None else envoy
        # By path an envoy would take a module called "output" (a Q-Former's) for the output itself.
        envoys = {id(envoy._module): envoy for envoy in self._envoy.modules()}
        self._envoys = {path: envoys.get(id(module)) for path, module in self.modules.items()}
        # Two threads that trace one model at once would mix their greenlets.
        self._lock = threading.RLock()

    def run(
        self,
        call: Callable[[], Any],
        inputs: Mapping[str, Any],
        visits: Mapping[str, Visit],
        skips: Mapping[str, Any] | None = None,
        **how: bool,
    ) -> None:
        """Run the model once, calling the visits on the way.

        Args:
            call: calls the model (``hf(...)`` or ``hf.generate(...)``) and keeps what it wants of the result.
            inputs: the tensors that `call` gives to the model, for views that need them.
            visits: hook point to visit.
            skips: paths of modules that are not run, and what each is taken to return (a forward pass only).
            how: ``generating`` (the model is called again for each new token) and ``stop`` (leave the model
                once the last visit is done; a forward pass only).

        Raises:
            HookPointError: a hook point that this run cannot reach.
        """
        with self._lock, _kept(self.hf, self.family.state):
            if not visits and not skips:
                call()
                return
            plan = self._in_order(self.plan(visits, inputs), skips or {}, inputs)
            if how.get("generating") and any(point.is_vision for place in plan for point in place.points):
                plan = self._as_generated(plan, call)
            # Only these are held: the streams of all layers together would be far larger than the model's own needs.
            needed = frozenset(name for place in plan for point in place.points for name in point.view.needs)
            frame = Frame(self.modules, inputs, needed)
            # nnsight reads these blocks from source: they cannot share one ``with`` and stay a single plain line.
            try:
                with self._envoy.trace(fn=call) as tracer:  # noqa: SIM117
                    with tracer.invoke():
                        _walk(self, tracer, plan, visits, frame, how)
            except OutOfOrderError as error:
                raise ModelError(
                    f"the modules that the map of family {self.family.name!r} names are not met in the order of its"
                    f" hook points: {str(error).splitlines()[0]}"
                ) from error

    def weights_version(self) -> int:
        """A number that changes when weights are changed in place (training, loading a state dict)."""
        # `hf.parameters()` would take as long as a layer of a small model.
        return sum(p._version for module in self.modules.values() for p in module._parameters.values() if p is not None)

    def has_images(self, inputs: Mapping[str, Any]) -> bool:
        """Whether a run on these tensors passes through the vision side."""
        vision = self.family.vision
        return vision is not None and vision.layout.has_pixels(inputs)

    def names(self, inputs: Mapping[str, Any]) -> list[str]:
        """Hook points that a run on these tensors passes, in forward order."""
        return list(self._table(inputs))

    def adds_up(self, stem: str) -> bool:
        """Whether what a block adds to the stream is all that it does to it."""
        parts = stem.split(".")
        if parts[0] != "blocks":
            return parts[0] == "vision"
        kind = self.blocks[int(parts[1])].kind
        return kind.tail is None and kind.scale is None

    def arrange(self, call: Callable[[], Any], inputs: Mapping[str, Any]) -> list[str]:
        """Put the hook points into the order in which a call meets them.

        Args:
            call: calls the model on the inputs.
            inputs: its tensors.

        Returns:
            Hook points that the call should pass and does not.
        """
        table = self._table(inputs)
        with self._lock, _kept(self.hf, self.family.state):
            order = observed_order(list(table.values()), self.modules, call)
        missing = [name for name in table if name not in {point.name for point in order}]
        if not missing:
            _reorder(table, [point.name for point in order])
            if table is self._text_points:
                # What a prompt without an image meets comes in the same order behind an image.
                _reorder(self.points, _replaced(list(self.points), list(table)))
        return missing

    @property
    def order(self) -> tuple[list[str], list[str]]:
        """Hook points in the order of a pass with an image, and of one without; may be set for a model of its kind."""
        return list(self.points), list(self._text_points)

    @order.setter
    def order(self, names: tuple[list[str], list[str]]) -> None:
        for table, order in zip((self.points, self._text_points), names, strict=True):
            _reorder(table, order)

    def needs_image(self, name: str) -> bool:
        """Whether a hook point is only reached with an image."""
        return name not in self._text_points

    def model(self, inputs: Mapping[str, Any]) -> Any:
        """The module that is called: the whole model, or its language model where that is all it can do."""
        alone = self.family.alone
        return self.hf if alone is None or self.has_images(inputs) else self.hf.get_submodule(alone)

    def _as_generated(self, plan: list[Location], call: Callable[[], Any]) -> list[Location]:
        # transformers' generate runs the vision side, or parts of it, before a forward that embeds first.
        if self._prefill is None:
            before = [point for point in self.points.values() if point.is_vision or not layer_of(point)]
            self._prefill = prefill_order(before, self.modules, call, self.blocks[0].path)
        rank = {name: number for number, name in enumerate(self._prefill)}
        return sorted(plan, key=lambda place: rank.get(place.points[0].name, len(rank)))

    def plan(self, visits: Iterable[str], inputs: Mapping[str, Any]) -> list[Location]:
        """Where a run on these tensors is looked at, in forward order, for visits at some hook points.

        Raises:
            HookPointError: a hook point that this run cannot reach.
        """
        points = self._table(inputs)
        wanted = set(visits)
        for name in visits:
            if name not in points:
                raise HookPointError(f"{name!r} is only reached with an image, and no prompt of this batch has one")
            point = points[name]
            wanted.update(_needs(points, point))
            if point.side == "attention":
                self._need_eager(point)
                # nnsight rewrites a forward when its source is first looked at: too late once the model is in it.
                _attention_call(self.envoy(point.module))
        chosen = [point for name, point in points.items() if name in wanted]
        places = groupby(chosen, key=lambda point: (point.module, point.side))
        return [Location(module, side, tuple(points)) for (module, side), points in places]

    def _in_order(
        self, plan: Sequence[Location], skips: Mapping[str, Any], inputs: Mapping[str, Any]
    ) -> list[Location]:
        if not skips:
            return list(plan)
        points = list(self._table(inputs).values())
        at = {point.name: number for number, point in enumerate(points)}
        skipped = {path: next(n for n, point in enumerate(points) if is_within(point.module, path)) for path in skips}
        # A module that is skipped is given its input first.
        places = [((skipped[path], 1), Location(path, "skip", (), value)) for path, value in skips.items()]
        places += [((at[place.points[0].name], 0 if place.side == "input" else 2), place) for place in plan]
        return [place for _, place in sorted(places, key=lambda entry: entry[0])]

    def _table(self, inputs: Mapping[str, Any]) -> dict[str, Point]:
        return self.points if self.has_images(inputs) else self._text_points

    def is_eager(self, point: Point) -> bool:
        """Whether the attention at a hook point gives its weights."""
        return self._attention(point) == "eager"

    def _attention(self, point: Point) -> str:
        return self.modules[point.module].config._attn_implementation

    def _need_eager(self, point: Point) -> None:
        kind = self._attention(point)
        if kind != "eager":
            raise ModelError(
                f"{point.name!r} needs attention weights, which {kind!r} attention does not give:"
                f" load the model with attn_implementation='eager'"
            )

    def envoy(self, path: str) -> Any:
        """The nnsight envoy of a module."""
        return self._envoys[path]


def is_within(module: str, path: str) -> bool:
    """Whether a module is the one at a path, or lies below it."""
    return module == path or module.startswith(f"{path}.")


def _reorder(table: dict[str, Point], order: Sequence[str]) -> None:
    points = dict(table)
    table.clear()
    table.update({name: points[name] for name in order})


def _replaced(names: Sequence[str], order: Sequence[str]) -> list[str]:
    """The names, those that are in `order` in its order, at the places that they have together."""
    ordered, known = iter(order), frozenset(order)
    return [next(ordered) if name in known else name for name in names]


def _needs(points: Mapping[str, Point], point: Point) -> Iterator[str]:
    for name in point.view.needs:
        yield name
        yield from _needs(points, points[name])


def _walk(
    network: Network,
    tracer: Any,
    plan: Sequence[Location],
    visits: Mapping[str, Visit],
    frame: Frame,
    how: Mapping[str, bool],
) -> None:
    if how.get("generating"):
        _steps(network, tracer, plan, visits, frame)
        return
    for place in plan:
        if place.side == "skip":
            network.envoy(place.module).skip(place.returned)
        else:
            _stop(network, place, visits, frame, 0)
    if how.get("stop"):
        tracer.stop()


def _steps(network: Network, tracer: Any, plan: Sequence[Location], visits: Mapping[str, Visit], frame: Frame) -> None:
    later = [place for place in plan if not any(point.is_vision for point in place.points)]
    step, reached = 0, -1
    try:
        for step in tracer.iter[:]:
            places = later if step else plan
            if not places:
                return
            for place in places:
                _stop(network, place, visits, frame, step)
                reached = step
    except OutOfOrderError:
        # A generation ends by never reaching the first place of one more step; anything else is a real error.
        if step == 0 or reached == step:
            raise


def _stop(network: Network, place: Location, visits: Mapping[str, Visit], frame: Frame, step: int) -> None:
    envoy = network.envoy(place.module)
    raw = _read(envoy, place.side)
    changed = False
    for point in place.points:
        value = point.view.read(raw, frame)
        visit = visits.get(point.name)
        if visit:
            old = point.shape.rows(value, frame.inputs)
            new = visit(old, step)
            if new is not None and new is not old:
                moved = point.shape.joined(new, value, frame.inputs)
                raw, value, changed = point.view.write(raw, value, moved, frame), moved, True
        if point.name in frame.needed:
            frame.seen[point.name] = value
    if changed:
        _write(envoy, place.side, raw)


def _read(envoy: Any, side: str) -> Any:
    if side == "input":
        return envoy.input
    if side == "output":
        return envoy.output
    if side == "both":
        given = envoy.input
        return Both(given, envoy.output)
    call = _attention_call(envoy)
    (_, query, key, value, *rest), named = call.inputs
    mask = rest[0] if rest else named.get("attention_mask")
    z, pattern, *_ = call.output
    return AttentionCall(z, pattern, query, key, value, mask, named["scaling"], named.get("softcap"))


def _write(envoy: Any, side: str, raw: Any) -> None:
    if side == "input":
        envoy.input = raw
    elif side == "attention":
        _attention_call(envoy).output = (raw.z, raw.pattern)
    else:
        envoy.output = raw.returned if side == "both" else raw


def _attention_call(envoy: Any) -> Any:
    # transformers looks the attention function up and then calls it; the call is the last of that name.
    names = [name for name in envoy.source.names if name.startswith("attention_interface_")]
    if not names:
        raise ModelError(f"{envoy.path}: its attention does not go through transformers' attention interface")
    # By attribute, which the far side of a remote run has, too.
    return getattr(envoy.source, names[-1])


@contextmanager
def _kept(hf: Any, attributes: Sequence[str]) -> Iterator[None]:
    owners = [(hf.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2]) for path in attributes]
    before = [getattr(owner, name) for owner, name in owners]
    try:
        yield
    finally:
        for (owner, name), value in zip(owners, before, strict=True):
            setattr(owner, name, value)
