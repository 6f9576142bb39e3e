"""Qwen2-VL: patches of all images run together, merged two by two, and three-part rotary positions."""

from cmrm_interp.families.maps import FamilyMap, VisionMap
from cmrm_interp.families.views import PackedPatches

QWEN2_VL = FamilyMap(
    name="qwen2_vl",
    model_types=("qwen2_vl",),
    decoder="model.language_model",
    vision=VisionMap(
        layers=("model.visual.blocks",),
        projector="model.visual.merger",
        patches=PackedPatches(),
        projected=PackedPatches(merge=4),
        pixels=("pixel_values", "image_grid_thw"),
    ),
    state=("model.rope_deltas",),
    mrope=True,
    hub_ids=("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-7B-Instruct"),
)
