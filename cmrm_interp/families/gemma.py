"""Gemma's decoders, and the vision-language models made from them: PaliGemma, Gemma 3."""

from dataclasses import replace

from cmrm_interp.families.layouts import Placed as PlacedImages
from cmrm_interp.families.maps import BlockMap, FamilyMap, VisionBlockMap, VisionMap
from cmrm_interp.families.views import Placed, Pooled

GEMMA = FamilyMap(
    name="gemma", model_types=("gemma",), decoder="model", gain_offset=1.0, hub_ids=("google/gemma-2b-it",)
)
# Norms before and after both attention and MLP.
SANDWICH = BlockMap(
    post_attn="post_attention_layernorm", ln2="pre_feedforward_layernorm", post_mlp="post_feedforward_layernorm"
)
GEMMA2 = FamilyMap(
    name="gemma2",
    model_types=("gemma2", "gemma3_text"),
    decoder="model",
    blocks=(SANDWICH,),
    gain_offset=1.0,
    hub_ids=("google/gemma-2-2b-it", "google/gemma-3-1b-it"),
)
SIGLIP = ("model.vision_tower.encoder.layers", "model.vision_tower.vision_model.encoder.layers")
# The whole prompt attends both ways; prompts without an image are for the tokenizer alone.
PALIGEMMA = FamilyMap(
    name="paligemma",
    model_types=("paligemma",),
    text_types=("gemma",),
    decoder="model.language_model",
    gain_offset=1.0,
    vision=VisionMap(layers=SIGLIP, projector="model.multi_modal_projector", mixed=False),
    shares_prefix=False,
    one_way=False,
    hub_ids=("google/paligemma-3b-mix-224",),
)
PALIGEMMA2 = replace(
    PALIGEMMA,
    name="paligemma2",
    text_types=("gemma2",),
    blocks=(SANDWICH,),
    hub_ids=("google/paligemma2-3b-mix-224",),
)
GEMMA3 = FamilyMap(
    name="gemma3",
    model_types=("gemma3",),
    decoder="model.language_model",
    blocks=(SANDWICH,),
    gain_offset=1.0,
    vision=VisionMap(layers=SIGLIP, projector="model.multi_modal_projector", nested=True),
    hub_ids=("google/gemma-3-4b-it", "google/gemma-3-12b-it"),
)
# Some layers borrow keys and values; large models have no values of their own in some; small ones add an
# embedding for each layer; all scale the stream at a block's end.
_PLAIN = replace(SANDWICH, scale="layer_scalar")
_EMBEDDED = replace(_PLAIN, tail=("hook_per_layer_out", "post_per_layer_input_norm"))
_LACKING: tuple[dict[str, None], ...] = ({}, {"v": None}, {"k": None, "v": None})
GEMMA4 = FamilyMap(
    name="gemma4",
    model_types=("gemma4",),
    decoder="model.language_model",
    shares_prefix=False,
    blocks=tuple(replace(block, **lack) for lack in _LACKING for block in (_EMBEDDED, _PLAIN)),
    vision=VisionMap(
        layers=("model.vision_tower.encoder.layers",),
        projector="model.embed_vision",
        block=VisionBlockMap(attn="post_attention_layernorm", mlp="post_feedforward_layernorm"),
        shape=Placed(),
        out_shape=Pooled(),
        projected=Pooled(),
        layout=PlacedImages(),
        nested=True,
    ),
    hub_ids=("google/gemma-4-E2B-it", "google/gemma-4-31B-it"),
)
