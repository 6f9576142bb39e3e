"""Llama 3.2 Vision: every few blocks attend to the image and are left out without one."""

from cmrm_interp.families.layouts import RowImages
from cmrm_interp.families.maps import BlockMap, FamilyMap, Gate, VisionBlockMap, VisionMap
from cmrm_interp.families.views import Tiles

CROSS = BlockMap(
    attn="cross_attn",
    q="cross_attn.q_proj",
    k="cross_attn.k_proj",
    v="cross_attn.v_proj",
    o="cross_attn.o_proj",
    cross=True,
    attn_gate=Gate("cross_attn_attn_gate", tanh=True),
    gated_mlp=True,
)
MLLAMA = FamilyMap(
    name="mllama",
    model_types=("mllama",),
    decoder="model.language_model",
    blocks=(BlockMap(), CROSS),
    vision=VisionMap(
        layers=("model.vision_model.transformer.layers",),
        more_layers="model.vision_model.global_transformer.layers",
        more_block=VisionBlockMap(attn_gate=Gate("gate_attn", tanh=True), mlp_gate=Gate("gate_ffn", tanh=True)),
        projector="model.multi_modal_projector",
        out_shape=Tiles(),
        projected=Tiles(),
        layout=RowImages(),
        mixed=False,
        nested=True,
    ),
    sees_first=True,
    shares_prefix=False,
    hub_ids=("meta-llama/Llama-3.2-11B-Vision-Instruct",),
)
