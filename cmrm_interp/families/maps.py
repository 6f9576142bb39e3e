"""Where things are in one family of models: a frozen record of module paths.

A family is a record, registered once (`cmrm_interp.families.registry`); hook points, the test matrix
and the docs follow from it.
"""

from dataclasses import dataclass, field
from typing import Literal

from cmrm_interp.families.views import Patches, View

Side = Literal["input", "output", "attention"]


@dataclass(frozen=True)
class Point:
    """One hook point of one model.

    Attributes:
        name: TransformerLens-style name.
        module: path of the module in the Hugging Face model.
        side: what is seen there: the module's input, its output, or its call of the attention function.
        view: how the raw value becomes the activation.
    """

    name: str
    module: str
    side: Side
    view: View

    @property
    def is_vision(self) -> bool:
        """Whether the point holds patches of images and not tokens."""
        return isinstance(self.view, Patches)


@dataclass(frozen=True)
class BlockMap:
    """Modules of a decoder block, relative to the block."""

    attn: str = "self_attn"
    q: str = "self_attn.q_proj"
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    o: str = "self_attn.o_proj"
    mlp: str = "mlp"
    mlp_out: str = "mlp.down_proj"


@dataclass(frozen=True)
class VisionMap:
    """The vision side of a family.

    Attributes:
        layers: paths where the list of vision blocks may be (it moved between transformers releases).
        projector: path of the module from vision to language width.
        patches: view of a vision block's output and of what the projector is given.
        projected: view of the projector's output.
        pixels: names of the model inputs that carry the images.
    """

    layers: tuple[str, ...]
    projector: str
    patches: Patches = field(default_factory=Patches)
    projected: Patches = field(default_factory=Patches)
    pixels: tuple[str, ...] = ("pixel_values",)


@dataclass(frozen=True)
class FamilyMap:
    """Module paths and habits of one family.

    Attributes:
        name: name of the family.
        model_types: values of ``config.model_type`` that belong to it.
        decoder: path of the decoder stack (with ``embed_tokens``, ``layers`` and ``norm`` below it).
        block: modules of one block.
        vision: the vision side, or None for a text-only family.
        gain_offset: added to an RMS norm's weight to get its gain.
        state: attributes that a forward pass leaves on the model; put back after each run.
        chat_template: used where a checkpoint brings none (Jinja).
        mrope: whether positions of image tokens have three parts, which the model works out itself.
        hub_ids: examples of checkpoints.
    """

    name: str
    model_types: tuple[str, ...]
    decoder: str
    unembed: str = "lm_head"
    block: BlockMap = field(default_factory=BlockMap)
    vision: VisionMap | None = None
    gain_offset: float = 0.0
    state: tuple[str, ...] = ()
    chat_template: str | None = None
    mrope: bool = False
    hub_ids: tuple[str, ...] = ()
