"""Plain text decoders: a backbone is compared with the vision-language model made from it."""

from cmrm_interp.families.maps import FamilyMap

LLAMA = FamilyMap(
    name="llama",
    model_types=("llama", "mistral", "qwen2"),
    decoder="model",
    hub_ids=("lmsys/vicuna-7b-v1.5", "Qwen/Qwen2-1.5B-Instruct"),
)
