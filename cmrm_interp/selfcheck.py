"""The self-check of a loaded model: its map is tried on a few tokens before anyone trusts it.

Every kind of hook point is changed in a row of its own, at the first, a middle and the last layer, and what
comes after must move as `cmrm_interp.families.checks` says; the stream must add up. All failures are told at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Int, Tensor
from cmrm_interp.encoding import Encoder
from cmrm_interp.errors import CmrmError, ModelError
from cmrm_interp.families.checks import Expect, ends, rows, shape_fault, spread_layers
from cmrm_interp.families.views import Frame
from cmrm_interp.hooks import stack_sizes
from cmrm_interp.images import blank
from cmrm_interp.prompts import Prompt
from cmrm_interp.running import to_device
from cmrm_interp.tracing import Network

N_TOKENS = 5
# The order of the hook points that was found for a configuration.
_PASSED: dict[str, tuple[list[str], list[str]]] = {}


@dataclass(frozen=True)
class Trial:
    """One batch of the self-check.

    Attributes:
        rows: what is changed in each row but the first, which is left as it is.
        image: whether the rows have an image.
        vision: whether it is about the vision side, and may leave the model behind it.
    """

    rows: tuple[Expect, ...]
    image: bool = False
    vision: bool = False

    def rows_without(self, point: str) -> list[int]:
        """Rows in which a point was not changed."""
        return [0, *(number for number, row in enumerate(self.rows, start=1) if row.point != point)]


def selfcheck(network: Network, encoder: Encoder) -> None:
    """Prove the map of a model on the model itself; what was proved for the same configuration is not tried again.

    The vision side is tried where there is a processor to make an image with.

    Raises:
        ModelError: it does not hold; the message lists every failure.
    """
    key = _key(network, encoder)
    if key in _PASSED:
        network.order = _PASSED[key]
        return
    failures = failures_of(network, encoder)
    if failures:
        shown = "\n  ".join(failures[:20])
        raise ModelError(
            f"the map of family {network.family.name!r} does not fit {type(network.hf).__name__}"
            f" ({len(failures)} checks failed):\n  {shown}\nregister a better FamilyMap, or pass check=False to go on"
        )
    _PASSED[key] = network.order


def failures_of(network: Network, encoder: Encoder, every_layer: bool = False) -> list[str]:
    """What does not hold, one line each.

    Args:
        network: the model.
        encoder: of the model.
        every_layer: try all layers instead of three.
    """
    found = _told(_arrange, network, encoder)
    if found and encoder.can_see and (problem := _told(_with_image, network, encoder)):
        # What fails without any hook says nothing of the map.
        return [
            f"a prompt with an image does not run: {problem[0]}; are the processor and its chat template those of"
            " this model, and its config's image_token_id that of its tokenizer?"
        ]
    for trial in [] if found else _trials(network, encoder, every_layer):
        found += _told(_tried, network, encoder, trial)
    return found


def _arrange(network: Network, encoder: Encoder) -> list[str]:
    """Put the hook points into the order that a recorded forward meets them in, and look at their shapes.

    Returns:
        Points that are never reached, and those of another shape than their names say.
    """
    found: list[str] = []
    batches = [_text(network, 1)]
    if network.family.vision is not None and encoder.can_see:
        batches.append(_image(network, encoder, 1))
    for batch in batches:
        tensors = to_device(network, batch)
        found += [f"{name}: never reached" for name in network.arrange(lambda t=tensors: _call(network, t), tensors)]
        found += [] if found else _told(_shapes, network, tensors)
    return found


def _with_image(network: Network, encoder: Encoder) -> list[str]:
    _call(network, to_device(network, _image(network, encoder, 1)))
    return []


def _call(network: Network, tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        network.model(tensors)(**tensors, use_cache=False)


def _told(check: Callable[..., list[str]], *args: Any) -> list[str]:
    try:
        return check(*args)
    except (CmrmError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        return [f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:200]}"]


def _shapes(network: Network, tensors: Mapping[str, Tensor]) -> list[str]:
    seen: dict[str, tuple[int, ...]] = {}
    names = [n for n in network.names(tensors) if _readable(network, n)]

    def _visit(name: str) -> Callable[[Tensor, int], None]:
        return lambda x, step: seen.__setitem__(name, tuple(x.shape))

    network.run(lambda: _call(network, tensors), tensors, {name: _visit(name) for name in names})
    text = network.hf.config.get_text_config()
    n, width = tensors["input_ids"].shape
    sizes = {"batch": n, "pos": width, "d_model": text.hidden_size, "head": text.num_attention_heads, "one": 1}
    return [wrong for name in names if (wrong := shape_fault(name, seen[name], sizes))]


def _trials(network: Network, encoder: Encoder, every_layer: bool) -> list[Trial]:
    text = [name for name in network.points if not network.needs_image(name) and _readable(network, name)]
    sizes = stack_sizes(list(network.points))
    layers = {stack: list(range(n)) if every_layer else spread_layers(n) for stack, n in sizes.items()}
    # Without an image these blocks are left out.
    skipped = sorted({int(n.split(".")[1]) for n in network.points if ".cross_attn." in n})
    plain = (*ends(text, vision=False), *rows(text, "blocks", [i for i in layers["blocks"] if i not in skipped]))
    trials = [Trial(plain)]
    if network.family.vision is None or not encoder.can_see:
        return trials
    seen = [name for name, point in network.points.items() if point.is_vision and not point.by_prompt]
    stacks = [stack for stack in sizes if stack != "blocks"]
    looking = (*ends(seen, vision=True), *(row for s in stacks for row in rows(seen, s, layers[s])))
    trials.append(Trial(looking, image=True, vision=True))
    if skipped:
        names = [name for name in network.points if _readable(network, name)]
        chosen = skipped if every_layer else [skipped[i] for i in spread_layers(len(skipped))]
        crossing = tuple(rows(names, "blocks", chosen))
        trials.append(Trial(crossing, image=True))
    return trials


def _readable(network: Network, name: str) -> bool:
    point = network.points[name]
    return point.side != "attention" or network.is_eager(point)


def _tried(network: Network, encoder: Encoder, trial: Trial) -> list[str]:
    seen = _run(network, encoder, trial)
    found = [f"{row.point}: never reached" for row in trial.rows if row.point not in seen]
    for number, row in enumerate(trial.rows, start=1):
        if row.point in seen:
            found += _judge(seen, row, number, _tolerance(network))
    return found + _sums(seen, trial, network) + _gain(seen, network)


def _run(network: Network, encoder: Encoder, trial: Trial) -> dict[str, Tensor]:
    wanted = {name for row in trial.rows for name in (row.point, *row.shifts, *row.moves, *row.keeps)}
    changed: dict[str, list[int]] = {}
    for number, row in enumerate(trial.rows, start=1):
        changed.setdefault(row.point, []).append(number)
    seen: dict[str, Tensor] = {}
    n = len(trial.rows) + 1

    def _visit(name: str) -> Callable[[Tensor, int], Tensor | None]:
        def _change(x: Tensor, step: int) -> Tensor | None:
            split = x.unflatten(0, (n, -1))
            if name in changed:
                split = split.clone()
                for row in changed[name]:
                    split[row] = _bent(split[row], name)
            # A model may change what it is given in place.
            seen[name] = split.clone()
            return split.flatten(0, 1) if name in changed else None

        return _change

    tensors = to_device(network, _image(network, encoder, n) if trial.image else _text(network, n))
    network.run(lambda: _call(network, tensors), tensors, {name: _visit(name) for name in wanted}, stop=trial.vision)
    return seen


def _bent(x: Tensor, name: str) -> Tensor:
    """A change that is no symmetry of a norm, of a softmax or of a sum over positions."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
    if name.endswith((".hook_scale", ".hook_pattern")):
        return (x * (1 + 0.5 * noise.sigmoid())).to(x.dtype)
    # A model may have single values that are far larger than all others; masked scores are as low as numbers go.
    # And most of what comes out of a ReLU is zero.
    sizes = x.float().abs().clamp(max=1e4)
    size = sizes[sizes > 0].median().clamp(min=1e-3, max=10) if bool(sizes.any()) else 1e-3
    return (x.float() + size * noise).to(x.dtype)


def _judge(seen: Mapping[str, Tensor], row: Expect, number: int, tolerance: float) -> list[str]:
    found = []
    for name in row.shifts:
        if name in seen and not _moved_alike(seen[row.point], seen[name], number, tolerance):
            found.append(f"{row.point}: {name} did not move by as much")
    for name in row.moves:
        if name in seen and _moved(seen[name], number) <= tolerance:
            found.append(f"{row.point}: {name} did not move")
    for name in row.keeps:
        if name in seen and _moved(seen[name], number) > tolerance:
            found.append(f"{row.point}: {name} moved")
    return found


def _moved(x: Tensor, row: int) -> float:
    """How far a row is from the one that was left as it is, at the token where that is most; relative."""
    # Token by token: some models have tokens whose stream is a thousand times that of others.
    change, clean = (_finite(y).norm(dim=-1) for y in (_difference(x, row), x[0]))
    return float((change / clean.clamp(min=1e-6)).max())


def _moved_alike(source: Tensor, target: Tensor, row: int, tolerance: float) -> bool:
    """Whether a change at one point is the change at another, but for what rounding takes of it."""
    change, moved = _difference(source, row), _difference(target, row)
    lost = 4 * torch.finfo(target.dtype).eps * torch.maximum(target[row].abs(), target[0].abs()).float()
    beyond = ((moved - change).abs() - lost).clamp(min=0)
    return _size(beyond) <= 10 * tolerance * _size(change)


def _sums(seen: Mapping[str, Tensor], trial: Trial, network: Network) -> list[str]:
    found = []
    for stem in sorted({name.removesuffix(".hook_resid_post") for name in seen if name.endswith(".hook_resid_post")}):
        if network.adds_up(stem):
            # Where a sum itself was changed, what had been added before was seen unchanged.
            kept = {n: x[trial.rows_without(f"{stem}.hook_resid_mid")] for n, x in seen.items()}
            found += _sum(kept, stem, ("resid_pre", "attn_out"), "resid_mid", _tolerance(network))
            kept = {n: x[trial.rows_without(f"{stem}.hook_resid_post")] for n, x in seen.items()}
            start = ("resid_mid",) if f"{stem}.hook_resid_mid" in seen else ("resid_pre", "attn_out")
            found += _sum(kept, stem, (*start, "mlp_out"), "resid_post", _tolerance(network))
    return found


@torch.no_grad()
def _gain(seen: Mapping[str, Tensor], network: Network) -> list[str]:
    names = ("ln_final.hook_normalized", "ln_final.hook_out")
    if any(name not in seen for name in names):
        return []
    point = network.points[names[0]]
    frame = Frame(network.modules, {})
    plain, out = (seen[name][0].float() for name in names)
    bias = frame.parameter(point.module, "bias")
    made = plain * point.view.norm.gain(frame)  # type: ignore[attr-defined]
    made = made if bias is None else made + bias
    wrong = _far(made, out) > 10 * _tolerance(network)
    return ["ln_final.hook_normalized: times the gain it is not ln_final.hook_out (gain_offset?)"] if wrong else []


def _sum(seen: Mapping[str, Tensor], stem: str, parts: Sequence[str], total: str, tolerance: float) -> list[str]:
    names = [f"{stem}.hook_{part}" for part in (*parts, total)]
    if any(name not in seen for name in names):
        return []
    *added, whole = (seen[name] for name in names)
    return [] if _far(sum(added[1:], added[0]), whole) <= tolerance else [f"{stem}: {' + '.join(parts)} is not {total}"]


def _difference(x: Tensor, row: int) -> Tensor:
    return x[row].float() - x[0].float()


def _size(x: Tensor) -> float:
    return float(_finite(x).norm())


def _finite(x: Tensor) -> Tensor:
    # Masked scores are as low as the dtype goes.
    return x.float().clamp(-1e4, 1e4)


def _far(a: Tensor, b: Tensor) -> float:
    return _size(a.float() - b.float()) / max(_size(b), 1e-6)


def _tolerance(network: Network) -> float:
    return 1e-4 if network.hf.dtype in (torch.float32, torch.float64) else 2e-2


def _text(network: Network, n: int) -> dict[str, Tensor]:
    config = network.hf.config
    known = {value for part in (config, config.get_text_config()) for name, value in vars(part).items()
             if "token" in name and isinstance(value, int)}  # fmt: skip
    ids: list[int] = []
    generator = torch.Generator().manual_seed(0)
    while len(ids) < N_TOKENS:
        token = int(torch.randint(config.get_text_config().vocab_size, (), generator=generator))
        ids += [] if token in known else [token]
    row: Int[Tensor, "one pos"] = torch.tensor([ids])
    tensors = {"input_ids": row.expand(n, -1), "attention_mask": torch.ones(n, N_TOKENS, dtype=torch.long)}
    if network.family.positions:
        tensors["position_ids"] = torch.arange(N_TOKENS).expand(n, -1)
    return tensors


def _image(network: Network, encoder: Encoder, n: int) -> dict[str, Tensor]:
    return encoder.encode([Prompt("a", image=blank((56, 56)))] * n)[0]


def _key(network: Network, encoder: Encoder) -> str:
    hf = network.hf
    config = hf.config.to_json_string(use_diff=False)
    # What was proved without scores or without images, or with another processor, is not proved with them.
    how = (hf.dtype, hf.config.get_text_config()._attn_implementation, type(encoder.processor), encoder.can_see)
    return f"{network.family!r} {type(hf).__name__} {how} {config}"
