"""LLaVA 1.5 (a CLIP tower, a two-layer projector, a Llama decoder) and what came from it."""

from dataclasses import replace

from cmrm_interp.families.layouts import AnyResolution
from cmrm_interp.families.maps import FamilyMap, VisionMap

# llava-hf/llava-1.5-7b-hf's own template, for checkpoints that were saved without one.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)

VISION = VisionMap(
    layers=("model.vision_tower.encoder.layers", "model.vision_tower.vision_model.encoder.layers"),
    projector="model.multi_modal_projector",
)
LLAVA = FamilyMap(
    name="llava",
    model_types=("llava",),
    decoder="model.language_model",
    vision=VISION,
    chat_template=CHAT_TEMPLATE,
    hub_ids=("llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-13b-hf"),
)
LLAVA_NEXT = FamilyMap(
    name="llava_next",
    model_types=("llava_next",),
    decoder="model.language_model",
    vision=replace(VISION, layout=AnyResolution()),
    hub_ids=("llava-hf/llava-v1.6-vicuna-7b-hf", "llava-hf/llava-v1.6-mistral-7b-hf"),
)
LLAVA_ONEVISION = FamilyMap(
    name="llava_onevision",
    model_types=("llava_onevision",),
    decoder="model.language_model",
    vision=replace(
        VISION, layout=AnyResolution(pixels=("pixel_values", "image_sizes", "batch_num_images")), nested=True
    ),
    hub_ids=("llava-hf/llava-onevision-qwen2-7b-ov-hf",),
)
