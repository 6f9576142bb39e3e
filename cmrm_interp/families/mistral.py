"""Pixtral and Mistral 3: a tower with rotary positions that sees images of any size, run together."""

from cmrm_interp.families.layouts import Sized
from cmrm_interp.families.maps import FamilyMap, VisionBlockMap, VisionMap
from cmrm_interp.families.views import Packed

PATCHES = Packed(sizes="image_sizes", pixels=True)
LAYERS = ("model.vision_tower.transformer.layers",)
BLOCK = VisionBlockMap(attn="attention", mlp="feed_forward")

# A LLaVA by its configuration, with another tower.
PIXTRAL = FamilyMap(
    name="pixtral",
    model_types=("llava",),
    vision_types=("pixtral",),
    decoder="model.language_model",
    vision=VisionMap(
        layers=LAYERS, projector="model.multi_modal_projector", block=BLOCK, shape=PATCHES, layout=Sized()
    ),
    hub_ids=("mistral-community/pixtral-12b",),
)
MISTRAL3 = FamilyMap(
    name="mistral3",
    model_types=("mistral3",),
    decoder="model.language_model",
    vision=VisionMap(
        layers=LAYERS,
        projector="model.multi_modal_projector",
        block=BLOCK,
        shape=PATCHES,
        projected=Packed(sizes="image_sizes", pixels=True, merged=True),
        layout=Sized(),
    ),
    hub_ids=("mistralai/Mistral-Small-3.1-24B-Instruct-2503",),
)
