"""InternVL: an InternViT with learned layer scales, pictures cut into crops, shuffled into fewer tokens."""

from cmrm_interp.families.layouts import Crops
from cmrm_interp.families.maps import FamilyMap, Gate, VisionBlockMap, VisionMap

INTERNVL = FamilyMap(
    name="internvl",
    model_types=("internvl",),
    decoder="model.language_model",
    vision=VisionMap(
        layers=("model.vision_tower.encoder.layer",),
        projector="model.multi_modal_projector",
        block=VisionBlockMap(attn="attention", attn_gate=Gate("lambda_1"), mlp_gate=Gate("lambda_2")),
        layout=Crops(),
    ),
    hub_ids=("OpenGVLab/InternVL3-8B-hf", "OpenGVLab/InternVL3_5-8B-HF"),
)
