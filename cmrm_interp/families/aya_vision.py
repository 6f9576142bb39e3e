"""Aya Vision: a SigLIP tower over crops, and a Cohere decoder whose attention and MLP run side by side."""

from cmrm_interp.families.layouts import Crops
from cmrm_interp.families.maps import BlockMap, FamilyMap, VisionMap
from cmrm_interp.families.views import Grid

PARALLEL = BlockMap(ln2=None, parallel=True)
AYA_VISION = FamilyMap(
    name="aya_vision",
    model_types=("aya_vision",),
    decoder="model.language_model",
    blocks=(PARALLEL,),
    vision=VisionMap(
        layers=("model.vision_tower.encoder.layers", "model.vision_tower.vision_model.encoder.layers"),
        projector="model.multi_modal_projector",
        projected=Grid(),
        layout=Crops(inside=("TILE_GLOBAL", *(f"TILE_{i}" for i in range(1, 65)))),
    ),
    hub_ids=("CohereLabs/aya-vision-8b",),
)
