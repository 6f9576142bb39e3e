"""Idefics3 and SmolVLM: pictures cut into crops, shuffled into fewer tokens, a Llama decoder."""

from cmrm_interp.families.layouts import RowCrops
from cmrm_interp.families.maps import FamilyMap, VisionMap

IDEFICS3 = FamilyMap(
    name="idefics3",
    model_types=("idefics3", "smolvlm"),
    decoder="model.text_model",
    vision=VisionMap(
        layers=("model.vision_model.encoder.layers",), projector="model.connector", layout=RowCrops(), nested=True
    ),
    hub_ids=("HuggingFaceM4/Idefics3-8B-Llama3", "HuggingFaceTB/SmolVLM2-2.2B-Instruct"),
)
