"""DeepSeek-VL: a SigLIP tower, an aligner, a Llama decoder."""

from cmrm_interp.families.maps import FamilyMap, VisionMap

DEEPSEEK_VL = FamilyMap(
    name="deepseek_vl",
    model_types=("deepseek_vl",),
    decoder="model.language_model",
    vision=VisionMap(layers=("model.vision_model.encoder.layers",), projector="model.aligner"),
    hub_ids=("deepseek-community/deepseek-vl-1.3b-chat",),
)
