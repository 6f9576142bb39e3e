"""Where things are in one family of models: a frozen record of module paths.

A family is a record, registered once (`cmrm_interp.families.registry`); hook points, the self-check, the
test matrix and the docs follow from it.
"""

from dataclasses import dataclass, field
from typing import Literal

from cmrm_interp.families.layouts import EachImage, Layout
from cmrm_interp.families.views import AS_IS, Shape, View

Side = Literal["input", "output", "both", "attention"]


@dataclass(frozen=True)
class Point:
    """One hook point of one model.

    Attributes:
        name: TransformerLens-style name.
        module: path of the module in the Hugging Face model.
        side: what is seen there: the module's input, its output, both, or its call of the attention function.
        view: how the raw value becomes the activation.
        shape: how rows lie in the activation.
        is_vision: whether the point holds pieces of images and not tokens.
        by_prompt: whether rows of such a point are prompts, and not crops.
    """

    name: str
    module: str
    side: Side
    view: View
    shape: Shape = AS_IS
    is_vision: bool = False
    by_prompt: bool = False


@dataclass(frozen=True)
class Gate:
    """A learned factor of what a block adds to the stream.

    Attributes:
        name: of the parameter, on the block; or of a plain number (Granite's residual multiplier).
        tanh: whether it goes through tanh.
    """

    name: str
    tanh: bool = False


@dataclass(frozen=True)
class BlockMap:
    """Modules of a decoder block, relative to the block; None for what it does not have.

    Attributes:
        ln1, ln2: norms before attention and MLP.
        attn, mlp: attention and MLP.
        q, k, v, o: projections of the attention.
        qkv: one projection for queries, keys and values, in this order, in place of q, k and v.
        post_attn, post_mlp: norms after attention and MLP (Gemma 2, GLM-4), before their output is added.
        gate, up, down: projections of a gated MLP; a plain MLP has `gate` (or `up`) and `down`.
        gate_up: one projection for gate and up, in this order.
        router: module that returns router logits, in a mixture of experts.
        parallel: whether attention and MLP read the same stream (Cohere), so that there is no ``resid_mid``.
        flat_mlp: whether rows and positions are joined inside the MLP.
        pattern: whether its attention is a call of transformers' attention function, which gives scores and pattern.
        scores: whether that pattern is a softmax of the scores, so that these can be written (no attention sinks).
        cross: whether it attends to the image and is left out without one (Mllama).
        attn_gate: factor of what attention adds.
        gated_mlp: whether the MLP's output is gated or masked before it is added.
        tail: hook point and module of what the block adds after the MLP (Gemma 4's embeddings for each layer).
        scale: name of a buffer by which the whole stream is multiplied at the block's end.
    """

    ln1: str | None = "input_layernorm"
    attn: str = "self_attn"
    q: str | None = "self_attn.q_proj"
    k: str | None = "self_attn.k_proj"
    v: str | None = "self_attn.v_proj"
    o: str | None = "self_attn.o_proj"
    qkv: str | None = None
    post_attn: str | None = None
    ln2: str | None = "post_attention_layernorm"
    mlp: str = "mlp"
    gate: str | None = "mlp.gate_proj"
    up: str | None = "mlp.up_proj"
    gate_up: str | None = None
    down: str | None = "mlp.down_proj"
    post_mlp: str | None = None
    router: str | None = None
    parallel: bool = False
    flat_mlp: bool = False
    pattern: bool = True
    scores: bool = True
    cross: bool = False
    attn_gate: Gate | None = None
    gated_mlp: bool = False
    tail: tuple[str, str] | None = None
    scale: str | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of all modules that it names."""
        names = ("ln1", "attn", "q", "k", "v", "o", "qkv", "post_attn", "ln2", "mlp", "gate", "up", "gate_up", "down")
        paths = [getattr(self, name) for name in (*names, "post_mlp", "router")]
        paths += [self.tail[1]] if self.tail else []
        return tuple(path for path in paths if path is not None)


@dataclass(frozen=True)
class VisionBlockMap:
    """Modules of a block of the vision tower, relative to the block.

    Attributes:
        attn, mlp: attention and MLP, which add their outputs to the stream.
        attn_gate, mlp_gate: factors of what they add.
    """

    attn: str = "self_attn"
    mlp: str = "mlp"
    attn_gate: Gate | None = None
    mlp_gate: Gate | None = None


@dataclass(frozen=True)
class QFormerMap:
    """A Q-Former between tower and projector.

    Attributes:
        layers: path of its blocks.
        attn, cross, mlp: modules of a block whose outputs are added to its stream, before its norms;
            `cross` is there in some blocks only.
    """

    layers: str = "qformer.encoder.layer"
    attn: str = "attention.output.dense"
    cross: str = "crossattention.output.dense"
    mlp: str = "output_query.dense"


@dataclass(frozen=True)
class VisionMap:
    """The vision side of a family.

    Attributes:
        layers: paths where the list of vision blocks may be (it moved between transformers releases).
        projector: path of the module from vision to language width; empty where the vision side has no hook points.
        more_layers: path of a second list of blocks, which go on after the first (Mllama).
        block, more_block: modules of a block of either list; None to see no more than its input and output.
        shape: how rows lie in the tower; `out_shape`, `projected`: in what the projector is given, and gives.
        out: module whose output is ``vision.hook_out``, where that is not what the projector is given.
        qformer: a Q-Former between tower and projector.
        layout: which images, crops and image tokens belong to each other.
        mixed: whether prompts with and without image can share a batch.
        nested: whether the processor takes a list of images a prompt, and not one list for all.
    """

    layers: tuple[str, ...]
    projector: str
    more_layers: str | None = None
    block: VisionBlockMap | None = field(default_factory=VisionBlockMap)
    more_block: VisionBlockMap | None = None
    shape: Shape = AS_IS
    out_shape: Shape | None = None
    projected: Shape | None = None
    out: str | None = None
    qformer: QFormerMap | None = None
    layout: Layout = field(default_factory=EachImage)
    mixed: bool = True
    nested: bool = False


@dataclass(frozen=True)
class FamilyMap:
    """Module paths and habits of one family.

    Attributes:
        name: name of the family.
        model_types: values of ``config.model_type`` that belong to it.
        vision_types, text_types: values of ``model_type`` of ``config.vision_config`` and ``config.text_config``,
            where other towers or decoders are another family.
        decoder: path of the module with embedding, blocks and last norm; empty where it is the model itself.
        embed, pos_embed, layers, norm: modules below it; there is a `pos_embed` where positions are learned.
        unembed: path of the head.
        blocks: kinds of blocks; each block is the first kind whose modules it has.
        vision: the vision side, or None for a text-only family.
        sees_first: whether the vision side runs before the embedding.
        alone: path of the model that is called for prompts without an image, where the whole one needs an image.
        positions: whether the model must be told the tokens' positions, being padded (GPT-2).
        gain_offset: added to an RMS norm's weight to get its gain.
        state: attributes that a forward pass leaves on the model; put back after each run.
        chat_template: used where a checkpoint brings none (Jinja).
        shares_prefix: whether prompts that begin alike can share keys and values: each token sees earlier ones alone,
            and each layer keeps keys and values of its own.
        one_way: whether each text token sees earlier tokens alone (those of an image may see one another), so that the
            last tokens of a prompt can be run again behind the others.
        mrope: whether positions of image tokens have three parts, which the model works out itself.
        hub_ids: examples of checkpoints.
    """

    name: str
    model_types: tuple[str, ...]
    decoder: str
    vision_types: tuple[str, ...] = ()
    text_types: tuple[str, ...] = ()
    embed: str = "embed_tokens"
    pos_embed: str | None = None
    layers: str = "layers"
    norm: str = "norm"
    unembed: str = "lm_head"
    blocks: tuple[BlockMap, ...] = (BlockMap(),)
    vision: VisionMap | None = None
    sees_first: bool = False
    alone: str | None = None
    positions: bool = False
    gain_offset: float = 0.0
    state: tuple[str, ...] = ()
    chat_template: str | None = None
    shares_prefix: bool = True
    one_way: bool = True
    mrope: bool = False
    hub_ids: tuple[str, ...] = ()

    def at(self, part: str) -> str:
        """Path in the model of a module below the decoder, which may be the model itself (an empty path)."""
        return f"{self.decoder}.{part}" if self.decoder else part
