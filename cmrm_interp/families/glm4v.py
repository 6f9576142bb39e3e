"""GLM-4V: packed patches, merged by a convolution; norms before and after attention and MLP."""

from cmrm_interp.families.layouts import Grids
from cmrm_interp.families.maps import BlockMap, FamilyMap, VisionBlockMap, VisionMap
from cmrm_interp.families.views import Packed

GLM4V = FamilyMap(
    name="glm4v",
    model_types=("glm4v",),
    decoder="model.language_model",
    blocks=(
        BlockMap(
            post_attn="post_self_attn_layernorm",
            gate=None,
            up=None,
            gate_up="mlp.gate_up_proj",
            post_mlp="post_mlp_layernorm",
        ),
    ),
    vision=VisionMap(
        layers=("model.visual.blocks",),
        projector="model.visual.merger",
        block=VisionBlockMap(attn="attn"),
        shape=Packed(),
        out_shape=Packed(merged=True),
        projected=Packed(merged=True),
        layout=Grids(),
    ),
    state=("model.rope_deltas",),
    mrope=True,
    hub_ids=("zai-org/GLM-4.1V-9B-Thinking",),
)
