"""BLIP-2 and InstructBLIP: a Q-Former asks the tower with a few learned queries."""

from dataclasses import replace

from cmrm_interp.families.layouts import EachImage
from cmrm_interp.families.maps import FamilyMap, QFormerMap, VisionMap
from cmrm_interp.families.text import OPT

VISION = VisionMap(
    layers=("vision_model.encoder.layers",),
    projector="language_projection",
    out="vision_model.post_layernorm",
    qformer=QFormerMap(),
    mixed=False,
)
BLIP2 = replace(
    OPT,
    name="blip_2",
    model_types=("blip-2",),
    text_types=("opt",),
    decoder="language_model.model.decoder",
    unembed="language_model.lm_head",
    vision=VISION,
    sees_first=True,
    shares_prefix=False,
    alone="language_model",
    hub_ids=("Salesforce/blip2-opt-2.7b",),
)
# The Q-Former reads the instruction, too.
INSTRUCTBLIP = FamilyMap(
    name="instructblip",
    model_types=("instructblip",),
    text_types=("llama",),
    decoder="language_model.model",
    unembed="language_model.lm_head",
    vision=replace(VISION, layout=EachImage(pixels=("pixel_values", "qformer_input_ids", "qformer_attention_mask"))),
    sees_first=True,
    shares_prefix=False,
    alone="language_model",
    # Padding on the left comes after the image tokens, in the midst of a row.
    positions=True,
    hub_ids=("Salesforce/instructblip-vicuna-7b",),
)
