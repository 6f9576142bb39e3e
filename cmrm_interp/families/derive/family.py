"""The map of a whole model."""

import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cmrm_interp.axes import Tensor
from cmrm_interp.errors import ModelError
from cmrm_interp.families.derive import names
from cmrm_interp.families.derive.block import Underivable, block_map, watched
from cmrm_interp.families.derive.layout import AnyLayout
from cmrm_interp.families.derive.record import Record, alike, record
from cmrm_interp.families.layouts import Layout, Sized
from cmrm_interp.families.maps import BlockMap, FamilyMap, VisionBlockMap, VisionMap
from cmrm_interp.families.norms import norm_of
from cmrm_interp.families.views import Loose, Packed, Shape

N_ROWS, N_TOKENS = 2, 5


def derive(hf: Any, source: str) -> FamilyMap:
    """A map for a model of no registered family; `ci.load` proves it on the model before it is used.

    Args:
        hf: the Hugging Face model, with its weights.
        source: name or path, for the error.

    Raises:
        ModelError: parts that no convention finds; the message names each, and shows the map to pass.
    """
    faults: list[str] = _unlike(hf)
    stack = None if faults else _stack(hf, faults)
    if stack is None:
        raise _error(hf, source, faults)
    kind, decoder = hf.config.model_type, _joint(hf, stack)
    family = FamilyMap(kind, (kind,), decoder, blocks=(), shares_prefix=False, one_way=False)
    family = replace(family, **_ends(hf, decoder, stack, faults))
    alone, seen = _run(hf, family, stack, faults)
    family = replace(family, alone=alone)
    if seen.calls:
        family = replace(family, norm=_last_norm(family, hf, stack, seen))
        faults += _called_again(family, seen)
        blocks = _blocks(hf, stack, seen, faults)
        family = replace(family, blocks=blocks, gain_offset=_gain_offset(family, hf, seen), state=_state(hf))
        family = _with_positions(family, seen)
    if faults:
        raise _error(hf, source, faults, family)
    return replace(family, vision=_vision(hf, stack), mrope=bool(family.state))


def guesses(family: FamilyMap, seeing: bool) -> Iterator[FamilyMap]:
    """The derived map, and others for what names do not tell of a vision side; the first that holds is taken.

    Args:
        family: from `derive`.
        seeing: whether there are a processor and its template, with which the self-check can try the vision side.
    """
    if family.vision is None:
        yield family
        return
    if not seeing:
        # What nothing can prove is left out.
        yield replace(family, vision=replace(family.vision, block=None))
        return
    for block in dict.fromkeys((family.vision.block, None)):
        for parts in _lying(family.vision):
            for nested in (True, False):
                yield replace(family, vision=replace(family.vision, block=block, nested=nested, **parts))
    for nested in (True, False):
        yield replace(family, vision=_unseen(family.vision.layout, nested))


def _lying(vision: VisionMap) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{}]
    if "image_grid_thw" in vision.layout.pixels:
        found.append({"out_shape": Packed(merged=True)})
    if "image_sizes" in vision.layout.pixels:
        packed = Packed(sizes="image_sizes", pixels=True)
        layout = Sized(pixels=(vision.layout.pixels[0], "image_sizes"))
        for merged in (replace(packed, merged=True), packed):
            found.append({"shape": packed, "projected": merged, "layout": layout})
    return found


def _unlike(hf: Any) -> list[str]:
    """Why a model is none that hook points can be found in."""
    if getattr(hf.config, "is_encoder_decoder", False):
        return ["one stack of decoder blocks: it is an encoder and a decoder, whose streams have no common names"]
    text = hf.config.get_text_config()
    sizes = [name for name in ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size")
             if not isinstance(getattr(text, name, None), int)]  # fmt: skip
    return [f"{name} in its text configuration ({type(text).__name__})" for name in sizes]


def _stack(hf: Any, faults: list[str]) -> str | None:
    """Path of the list of decoder blocks: the one of its length that a prompt without an image runs through."""
    n = getattr(hf.config.get_text_config(), "num_hidden_layers", None)
    found = [path for path, module in names.stacks(hf, "") if len(module) == n and _has_attention(module)]
    inner = names.path_of(hf, hf.get_decoder())
    # What is asked first is what the model itself calls its decoder.
    found.sort(key=lambda path: (not (inner and path.startswith(f"{inner}.")), _is_tower(path)))
    if len(found) > 1:
        _, seen = _recorded(hf, [f"{path}.0" for path in found], _prompt(hf), [])
        found = [path for path in found if f"{path}.0" in seen.calls] or found
    if found:
        return found[0]
    faults.append(f"the list of its {n} decoder blocks (FamilyMap(decoder=..., layers=...)): each needs an attention")
    return None


def _has_attention(blocks: nn.ModuleList) -> bool:
    return any(names.is_attention(*item) for block in blocks for item in block.named_children())


def _is_tower(path: str) -> bool:
    return any(part in names.TOWERS for part in path.split("."))


def _joint(hf: Any, stack: str) -> str:
    """The module that holds both the blocks and the token embedding."""
    embed = names.path_of(hf, hf.get_input_embeddings()) or stack
    parts: list[str] = []
    for a, b in zip(stack.split(".")[:-1], embed.split(".")[:-1], strict=False):
        if a != b:
            break
        parts.append(a)
    return ".".join(parts)


def _ends(hf: Any, decoder: str, stack: str, faults: list[str]) -> dict[str, Any]:
    below = hf.get_submodule(stack.rpartition(".")[0])
    inside = stack.rpartition(".")[0].removeprefix(decoder).lstrip(".")
    embed, head = names.path_of(hf, hf.get_input_embeddings()), names.path_of(hf, hf.get_output_embeddings())
    norm = _norms(below)
    if embed is None:
        faults.append("the token embedding (FamilyMap(embed=...))")
    if head is None:
        faults.append("the head that gives logits (FamilyMap(unembed=...))")
    if not norm:
        faults.append("the norm after the last block (FamilyMap(norm=...))")
    positions = names.child(below, names.EMBED_POSITIONS)
    learned = positions is not None and type(below.get_submodule(positions)) is nn.Embedding
    return {
        "layers": stack.removeprefix(f"{decoder}." if decoder else ""),
        "embed": (embed or "").removeprefix(f"{decoder}." if decoder else ""),
        "unembed": head or "",
        "norm": f"{inside}.{norm[-1]}".lstrip(".") if norm else "",
        "pos_embed": f"{inside}.{positions}".lstrip(".") if positions else None,
        "positions": learned and "position_ids" in _taken(hf),
    }


def _run(hf: Any, family: FamilyMap, stack: str, faults: list[str]) -> tuple[str | None, Record]:
    paths = [path for i, block in enumerate(hf.get_submodule(stack)) for path in watched(block, f"{stack}.{i}")]
    above = stack.rpartition(".")[0]
    paths += [f"{above}.{name}".lstrip(".") for name in _norms(hf.get_submodule(above))]
    paths += [family.at(name) for name in (family.embed, family.pos_embed) if name]
    paths += [family.unembed] if family.unembed else []
    tensors = _prompt(hf)
    if family.positions:
        tensors["position_ids"] = torch.arange(N_TOKENS, device=hf.device).expand(N_ROWS, -1)
    return _recorded(hf, paths, tensors, faults)


def _prompt(hf: Any) -> dict[str, Tensor]:
    ids = torch.randint(3, hf.config.get_text_config().vocab_size, (N_ROWS, N_TOKENS), generator=_seeded())
    return {"input_ids": _plain(ids, hf).to(hf.device), "attention_mask": torch.ones_like(ids).to(hf.device)}


def _recorded(hf: Any, paths: list[str], tensors: dict[str, Tensor], faults: list[str]) -> tuple[str | None, Record]:
    problem: Exception | None = None
    for part, model in _callable_parts(hf):
        try:
            return part, record(hf, paths, model, tensors)
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError) as error:
            problem = error
    faults.append(f"how a prompt without an image is run ({type(problem).__name__}: {problem}) (FamilyMap(alone=...))")
    return None, Record()


def _called_again(family: FamilyMap, seen: Record) -> Iterator[str]:
    for what, path in (("embed", family.at(family.embed)), ("norm", family.at(family.norm))):
        call = seen.calls.get(path)
        if call is not None and call.times > 1:
            yield f"a module that is the {what} alone: {path} is called {call.times} times in one pass"


def _with_positions(family: FamilyMap, seen: Record) -> FamilyMap:
    """Without a hook point at positions that are one row for all prompts."""
    call = seen.calls.get(family.at(family.pos_embed)) if family.pos_embed else None
    kept = call is not None and call.returned is not None and call.times == 1 and call.returned.shape[0] == N_ROWS
    return family if kept else replace(family, pos_embed=None)


def _callable_parts(hf: Any) -> list[tuple[str | None, Any]]:
    inner = [
        (path, module) for path, module in hf.named_modules() if path and type(module).__name__.endswith("CausalLM")
    ]
    return [(None, hf), *inner]


def _plain(ids: Tensor, hf: Any) -> Tensor:
    special = [v for part in (hf.config, hf.config.get_text_config()) for k, v in vars(part).items() if "token" in k]
    known = torch.tensor([v for v in special if isinstance(v, int)] or [-1])
    usable = torch.tensor([i for i in range(3, 3 + len(known) + N_TOKENS) if i not in known.tolist()])
    return torch.where(torch.isin(ids, known), usable[:N_TOKENS][None], ids)


def _blocks(hf: Any, stack: str, seen: Record, faults: list[str]) -> tuple[BlockMap, ...]:
    text = hf.config.get_text_config()
    heads = (text.num_attention_heads, getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
    kinds: list[BlockMap] = []
    for i, block in enumerate(hf.get_submodule(stack)):
        try:
            kind = block_map(block, f"{stack}.{i}", seen, heads)
        except Underivable as fault:
            faults.append(str(fault))
            continue
        kinds.append(kind)
    if len(kinds) < len(hf.get_submodule(stack)):
        return ()
    try:
        return _one_kind_each(kinds, hf.get_submodule(stack))
    except Underivable as fault:
        faults.append(str(fault))
        return ()


def _one_kind_each(kinds: Sequence[BlockMap], blocks: nn.ModuleList) -> tuple[BlockMap, ...]:
    """Kinds in an order in which each block is the first whose modules it has."""
    for _ in kinds:
        # The kinds with most modules come first.
        found = sorted(dict.fromkeys(kinds), key=lambda kind: -len(kind.modules))
        first = [next(k for k in found if _has(block, k)) for block in blocks]
        if all(taken == kind for taken, kind in zip(first, kinds, strict=True)):
            return tuple(found)
        # What was proved in one of two blocks of the same modules, and not in the other, is left out of both.
        both = {kind: _common(kind, taken) for taken, kind in zip(first, kinds, strict=True)}
        both |= {taken: both[kind] for taken, kind in zip(first, kinds, strict=True) if taken != kind}
        kinds = [both[kind] for kind in kinds]
    return tuple(dict.fromkeys(kinds))


def _has(block: nn.Module, kind: BlockMap) -> bool:
    paths = {path for path, _ in block.named_modules()}
    return paths.issuperset(kind.modules)


def _common(a: BlockMap, b: BlockMap) -> BlockMap:
    optional = ("ln1", "q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down", "router", "pattern", "scores")
    unequal = [name for name in optional if getattr(a, name) != getattr(b, name)]
    missing = {name: False if name in ("pattern", "scores") else None for name in unequal}
    if replace(a, **missing) != replace(b, **missing):
        raise Underivable("how to tell its kinds of blocks apart: blocks of the same modules work differently")
    return replace(a, **missing)


def _norms(below: nn.Module) -> list[str]:
    return [name for name, module in below.named_children() if names.is_norm(name, module)]


def _last_norm(family: FamilyMap, hf: Any, stack: str, seen: Record) -> str:
    above = stack.rpartition(".")[0]
    paths = [f"{above}.{name}".lstrip(".") for name in _norms(hf.get_submodule(above))]
    last = max((path for path in paths if path in seen.calls), key=lambda path: seen.calls[path].order, default=None)
    return family.norm if last is None else last.removeprefix(family.at(""))


def _gain_offset(family: FamilyMap, hf: Any, seen: Record) -> float:
    path = family.at(family.norm)
    modules, call = dict(hf.named_modules()), seen.calls.get(path)
    if call is None or call.given is None or getattr(modules.get(path), "weight", None) is None:
        return 0.0
    norm = norm_of(path, modules, 0.0)
    x = norm.centre(call.given)
    plain, weight = x / norm.scale(x), modules[path].weight
    return 1.0 if alike(call.returned, plain * (1 + weight)) and not alike(call.returned, plain * weight) else 0.0


def _state(hf: Any) -> tuple[str, ...]:
    found = [f"{path}.rope_deltas".lstrip(".") for path, module in hf.named_modules() if "rope_deltas" in vars(module)]
    return tuple(found)


def _unseen(layout: Layout, nested: bool = True) -> VisionMap:
    return VisionMap(layers=(), projector="", layout=layout, nested=nested)


def _vision(hf: Any, decoder_stack: str) -> VisionMap | None:
    if not _pixels(hf):
        return None
    modules = dict(hf.named_modules())
    towers = [
        path for path in modules if path.rpartition(".")[2] in names.TOWERS and not decoder_stack.startswith(path)
    ]
    projectors = [p for name in names.PROJECTORS for p in modules if p == name or p.endswith(f".{name}")]
    stacks = [found for path in towers[:1] for found in names.stacks(modules[path], path)]
    if not stacks or not projectors or _image_token(hf.config) is None:
        return _unseen(AnyLayout(pixels=_pixels(hf)))
    path, blocks = max(stacks, key=lambda found: len(found[1]))
    # GLM-4V makes one patch of four before its projector is given them.
    fewer = Packed(merged=True) if _has_grid(hf) and f"{towers[0]}.downsample" in modules else None
    packed: Shape = Packed() if _has_grid(hf) else Loose(pixels=_pixels(hf)[0])
    projected: Shape = Packed(merged=True) if _has_grid(hf) else Loose(pixels=_pixels(hf)[0])
    return VisionMap(
        layers=(path,), projector=projectors[0], block=_vision_block(blocks[0]), shape=packed, projected=projected,
        out_shape=fewer, layout=AnyLayout(pixels=_pixels(hf)), nested=True,
    )  # fmt: skip


def _image_token(config: Any) -> int | None:
    return getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)


def _vision_block(block: nn.Module) -> VisionBlockMap | None:
    parts = [
        next((name for name, module in block.named_children() if kind(name, module)), None)
        for kind in (names.is_attention, names.is_mlp)
    ]
    return VisionBlockMap(parts[0], parts[1]) if parts[0] and parts[1] else None


def _has_grid(hf: Any) -> bool:
    return "image_grid_thw" in _pixels(hf)


def _pixels(hf: Any) -> tuple[str, ...]:
    return names.images_among(_taken(hf))


def _taken(hf: Any) -> Collection[str]:
    return inspect.signature(hf.forward).parameters


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _error(hf: Any, source: str, faults: list[str], family: FamilyMap | None = None) -> ModelError:
    shown = "\n  ".join(dict.fromkeys(faults))
    kind = hf.config.model_type
    known = ["decoder", "embed", "layers", "norm", "unembed"]
    found = ", ".join(f"{name}={getattr(family, name, '') or '...'!r}" for name in known)
    sees = ", vision=VisionMap(layers=(...,), projector=...)" if _pixels(hf) else ""
    return ModelError(
        f"{source} is a {kind!r} model, of no registered family, and these parts were not found by Hugging Face's"
        f" conventions:\n  {shown}\nRegister its map before loading it (BlockMap, FamilyMap and VisionMap are in"
        f" cmrm_interp.families):\n  cmrm_interp.families.register(FamilyMap(name={kind!r},"
        f" model_types=({kind!r},), {found}, blocks=(BlockMap(...),){sees}))"
    )
