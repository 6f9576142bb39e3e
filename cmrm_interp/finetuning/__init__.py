"""Fine-tuning as a defence: VLGuard's Mixed and Post-hoc, whole or with low-rank adapters."""

from cmrm_interp.finetuning.examples import Example, helpful, own_refusals, safety
from cmrm_interp.finetuning.settings import LoRA, Training
from cmrm_interp.finetuning.training import finetune

__all__ = ["Example", "LoRA", "Training", "finetune", "helpful", "own_refusals", "safety"]
