"""What writes to the residual stream, and with which parameters: read off a family's map."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import nn
from transformers.pytorch_utils import Conv1D

from cmrm_interp.families.blocks import Block
from cmrm_interp.families.maps import VisionMap
from cmrm_interp.families.points import blocks_of
from cmrm_interp.tracing import Network

# What the last projection of an expert is called; the map of a mixture names its router only.
_DOWN = ("down_proj", "w2", "fc2", "c_proj", "output_linear")


@dataclass(frozen=True)
class Weight:
    """A parameter that a writer's output is linear in.

    Attributes:
        name: of the parameter.
        axis: of the stream's width in it.
    """

    name: str
    axis: int


@dataclass(frozen=True)
class Writer:
    """One thing that is added to the stream.

    Attributes:
        what: in words.
        points: its own hook points: what is done there is done to it alone.
        weights: parameters that change with it, a bias that there is among them.
        constant: parameter that is added once to each of its outputs, whether it is there or could be made.
        no_constant, no_linear: why it cannot hold a constant, or a linear map.
        entry: how it enters the stream, where factors on the way must be measured: ``"text"`` or ``"image"``.
    """

    what: str
    points: tuple[str, ...] = ()
    weights: tuple[Weight, ...] = ()
    constant: str | None = None
    no_constant: str = ""
    no_linear: str = ""
    entry: str = ""


@dataclass(frozen=True)
class Place:
    """Writers that enter the stream side by side, before anything reads it again.

    Attributes:
        seen: points of the stream behind them, each with the writers that have entered by then.
        split: whether each token is written by one of them, so that a constant must go to all.
    """

    seen: tuple[tuple[str, tuple[Writer, ...]], ...]
    split: bool = False

    @property
    def writers(self) -> tuple[Writer, ...]:
        """All of them."""
        return self.seen[-1][1]


def places_of(network: Network) -> list[Place]:
    """Everything that writes to the stream of a model, in forward order.

    Args:
        network: the model with its map.
    """
    blocks = blocks_of(network.family, network.hf, network.modules)
    late, found = list(_late(network)), [_entry(network, blocks)]
    for block in blocks:
        attn, mlp = _attention(block), _mlp(block, network.hf.config.get_text_config().hidden_size)
        own: tuple[Writer, ...] = (attn, mlp) if block.kind.parallel else (mlp,)
        if not block.kind.parallel:
            found.append(Place(((f"{block.name}.hook_resid_mid", (attn,)),)))
        seen: list[tuple[str, tuple[Writer, ...]]] = [(f"{block.name}.hook_resid_post", own)]
        if block.layer + 1 < len(blocks):
            more = tuple(late[block.layer : block.layer + 1])
            seen.append((f"blocks.{block.layer + 1}.hook_resid_pre", (*own, *more)))
        found.append(Place(tuple(seen)))
    return found


def _attention(block: Block) -> Writer:
    kind, what = block.kind, f"what attention of block {block.layer} adds"
    writer = Writer(what, (f"{block.name}.hook_attn_out",))
    if kind.o is None:
        return _unknown(writer, "the map names no output projection (o)")
    found = _of_module(writer, block.at(kind.o), block.modules)
    return _behind(found, block, kind.post_attn, kind.attn_gate is not None)


def _mlp(block: Block, width: int) -> Writer:
    kind, what = block.kind, f"what the MLP of block {block.layer} adds"
    writer = Writer(what, (f"{block.name}.hook_mlp_out",))
    down = None if kind.down is None else block.at(kind.down)
    found = _of_experts(writer, block, width) if down is None else _of_module(writer, down, block.modules)
    return _behind(found, block, kind.post_mlp, kind.gated_mlp)


def _behind(writer: Writer, block: Block, norm: str | None, gated: bool) -> Writer:
    """The writer, with what stands between its projection and the stream."""
    if block.kind.cross:
        return replace(writer, constant=None, no_constant="the block is left out for prompts without an image")
    if gated:
        writer = replace(writer, constant=None, no_constant="a learned gate multiplies it")
    if block.kind.tail is not None or block.kind.scale is not None:
        writer = replace(writer, constant=None, no_constant="the whole stream is scaled at the block's end")
    if norm is None:
        return writer
    path = block.at(norm)
    bias = f"{path}.bias"
    has_bias = isinstance(getattr(block.modules[path], "bias", None), nn.Parameter)
    reason = f"it goes through the norm {norm} before it is added"
    return replace(
        writer,
        weights=(),
        constant=bias if has_bias else None,
        no_constant=f"{reason}, and that norm has no bias",
        no_linear=f"{reason}, which divides by a length that would change",
    )


def _of_module(writer: Writer, path: str, modules: Mapping[str, nn.Module]) -> Writer:
    module = modules[path]
    if not isinstance(module, nn.Linear | Conv1D):
        return _unknown(writer, f"{path} is a {type(module).__name__} and no linear layer")
    weights = [Weight(f"{path}.weight", 0 if isinstance(module, nn.Linear) else 1)]
    if module.bias is not None:
        weights.append(Weight(f"{path}.bias", 0))
    return replace(writer, weights=tuple(weights), constant=f"{path}.bias")


def _of_experts(writer: Writer, block: Block, width: int) -> Writer:
    path = block.at(block.kind.mlp)
    found: list[Weight] = []
    for name, parameter in block.modules[path].named_parameters():
        owner = name.removesuffix(".weight").removesuffix("_bias").removesuffix(".bias").rpartition(".")[2]
        if owner in _DOWN:
            # Experts are stacked before (out, in), or (in, out) in some families; biases have the stream last.
            is_turned = name.endswith("bias") or parameter.shape[-2] != width
            found.append(Weight(f"{path}.{name}", parameter.ndim - (1 if is_turned else 2)))
    if not found:
        return _unknown(writer, f"no projection of the experts in {path} is called {', '.join(_DOWN)}")
    reason = "the router weighs experts, and none of them has a bias that every token gets"
    return replace(writer, weights=tuple(found), no_constant=reason)


def _entry(network: Network, blocks: list[Block]) -> Place:
    """Embeddings, and what the vision side puts among them."""
    family, text = network.family, _embedding(network, blocks)
    pre = f"{blocks[0].name}.hook_resid_pre"
    writers = (text, *_pictures(network, blocks))
    if family.pos_embed is None:
        return Place(((pre, writers),), split=True)
    path = family.at(family.pos_embed)
    positions = Writer(
        "position embeddings", ("hook_pos_embed",), (Weight(f"{path}.weight", 1),), constant=f"{path}.weight"
    )
    # Every token has a position, so that these hold a constant for all of them.
    return Place(((pre, (positions, *writers)),))


def _embedding(network: Network, blocks: list[Block]) -> Writer:
    path = network.family.at(network.family.embed)
    name, width = f"{path}.weight", network.hf.config.get_text_config().hidden_size
    writer = Writer("token embeddings", ("hook_embed",), (Weight(name, 1),), constant=name, entry="text")
    if network.modules[path].weight.shape[1] != width:
        return _unknown(writer, f"{path} has another width than the stream")
    if any(block.kind.tail for block in blocks):
        reason = "each block has embeddings of its own, worked out from them"
        return replace(writer, weights=(), constant=None, no_constant=reason, no_linear=reason)
    return writer


def _pictures(network: Network, blocks: list[Block]) -> Iterator[Writer]:
    vision = network.family.vision
    # Where blocks attend to the image, nothing of it is put among the tokens.
    if vision is None or any(block.kind.cross for block in blocks):
        return
    yield _projector(network, vision.projector, ("projector.hook_out",))
    parent = vision.projector.rpartition(".")[0]
    for name, parameter in network.modules[parent].named_parameters(recurse=False):
        if tuple(parameter.shape) == (network.hf.config.get_text_config().hidden_size,):
            full = f"{parent}.{name}".lstrip(".")
            yield Writer(f"the vector {full}", (), (Weight(full, 0),), constant=full, entry="image")


def _projector(network: Network, path: str, points: tuple[str, ...] = ()) -> Writer:
    writer = Writer(f"image features of {path or 'the vision side'}", points, entry="image")
    if not path:
        return _unknown(writer, "the map names no projector")
    width = network.hf.config.get_text_config().hidden_size
    inside = {f"{path}.{name}".rstrip("."): module for name, module in network.modules[path].named_modules()}
    linear = [name for name, m in inside.items() if isinstance(m, nn.Linear) and m.out_features == width]
    return _of_module(writer, linear[-1], inside) if linear else _unknown(writer, "it ends in no linear layer")


def _late(network: Network) -> Iterator[Writer]:
    """Image features that are added behind the first blocks (DeepStack): other modules of the projector's kind."""
    vision: VisionMap | None = network.family.vision
    if vision is None:
        return
    kind = type(network.modules[vision.projector])
    for path, module in network.modules.items():
        is_generic = kind.__module__.startswith("torch.")
        if not is_generic and type(module) is kind and path != vision.projector:
            yield replace(_projector(network, path), entry="")


def _unknown(writer: Writer, reason: str) -> Writer:
    return replace(writer, weights=(), constant=None, no_constant=reason, no_linear=reason)
