"""LLaVA 1.5: a CLIP tower, a two-layer projector, a Llama decoder."""

from cmrm_interp.families.maps import FamilyMap, VisionMap

# llava-hf/llava-1.5-7b-hf's own template, for checkpoints that were saved without one.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)

LLAVA = FamilyMap(
    name="llava",
    model_types=("llava",),
    decoder="model.language_model",
    vision=VisionMap(
        layers=("model.vision_tower.encoder.layers", "model.vision_tower.vision_model.encoder.layers"),
        projector="model.multi_modal_projector",
    ),
    chat_template=CHAT_TEMPLATE,
    hub_ids=("llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-13b-hf"),
)
