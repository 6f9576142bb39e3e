"""Qwen's vision-language models: patches of all images run together, merged two by two, three-part rotary positions."""

from dataclasses import replace

from cmrm_interp.families.layouts import Grids
from cmrm_interp.families.maps import BlockMap, FamilyMap, VisionBlockMap, VisionMap
from cmrm_interp.families.text import EXPERTS
from cmrm_interp.families.views import Packed, Windows

VISION = VisionMap(
    layers=("model.visual.blocks",),
    projector="model.visual.merger",
    block=VisionBlockMap(attn="attn"),
    shape=Packed(),
    projected=Packed(merged=True),
    layout=Grids(),
)
QWEN2_VL = FamilyMap(
    name="qwen2_vl",
    model_types=("qwen2_vl",),
    decoder="model.language_model",
    vision=VISION,
    state=("model.rope_deltas",),
    mrope=True,
    hub_ids=("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-7B-Instruct"),
)
QWEN2_5_VL = replace(
    QWEN2_VL,
    name="qwen2_5_vl",
    model_types=("qwen2_5_vl",),
    vision=replace(VISION, shape=Windows(), projected=Windows(merged=True)),
    hub_ids=("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
)
# Features of earlier vision layers are added to the stream between its first blocks (DeepStack).
QWEN3_VL = replace(
    QWEN2_VL,
    name="qwen3_vl",
    model_types=("qwen3_vl",),
    hub_ids=("Qwen/Qwen3-VL-4B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"),
)
QWEN3_VL_MOE = replace(
    QWEN3_VL,
    name="qwen3_vl_moe",
    model_types=("qwen3_vl_moe",),
    blocks=(EXPERTS, BlockMap()),
    hub_ids=("Qwen/Qwen3-VL-30B-A3B-Instruct",),
)
