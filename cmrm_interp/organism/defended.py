"""An organism, fine-tuned to be safe with images: VLGuard's Mixed and Post-hoc, and SafeDecoding's expert.

All that is learned are training words and pictures of the world. Steps and learning rates of Post-hoc and expert were
chosen on validation words. Mixed has the learning rate of instruction tuning and as many examples.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cmrm_interp.arguments import check_choice
from cmrm_interp.datasets.organism_safety import organism_helpful, organism_safety
from cmrm_interp.datasets.synthetic import REFUSAL
from cmrm_interp.families.load import Source
from cmrm_interp.finetuning import Example, LoRA, Training, helpful, own_refusals, safety
from cmrm_interp.judges import by_form
from cmrm_interp.model import load
from cmrm_interp.organism.instructions import before_instructions, has_stages, instructions
from cmrm_interp.organism.network import MAX_NEW_TOKENS
from cmrm_interp.organism.tokens import vocabulary

How = Literal["mixed", "post-hoc", "expert"]
HOW: tuple[How, ...] = ("mixed", "post-hoc", "expert")
_INSTRUCTIONS, _HELPFUL = 40000, 1500

SETTINGS: dict[How, Training] = {
    "mixed": Training(steps=2200, lr=7e-4, batch_size=32, warmup=50, trains=("decoder", "projector")),
    "post-hoc": Training(steps=200, lr=2e-4, batch_size=32),
    "expert": Training(steps=8, lr=7e-4, batch_size=16, lora=LoRA()),
}
_SIZES: dict[How, int] = {"mixed": 400, "post-hoc": 400, "expert": 300}


@dataclass(frozen=True)
class Plan:
    """A fine-tuning that can begin.

    Attributes:
        source: what `cmrm_interp.finetuning.finetune` begins from.
        examples: what is learned.
        settings: how.
        note: what it begins from and learns, in words.
    """

    source: Source
    examples: list[Example]
    settings: Training
    note: str


def is_organism(folder: str) -> bool:
    """Whether a model speaks the organism's words, by its tokenizer.

    Args:
        folder: of a checkpoint, or ``"organism"``.
    """
    return folder == "organism" or _words(Path(folder)) == set(vocabulary())


def plan(folder: str, how: How, seed: int = 0) -> Plan:
    """What an organism is fine-tuned on, from where, and how.

    Args:
        folder: of the organism, or ``"organism"``.
        how: ``mixed`` (from before instruction tuning where the folder has that stage, else from the finished one),
            ``post-hoc`` (from the finished one) or ``expert`` (its own refusals to text, on the same requests with
            images).
        seed: of the data.

    Raises:
        InputError: another way, or an organism that refuses nothing.
    """
    check_choice("way of fine-tuning", how, HOW)
    suites = list(organism_safety(_SIZES[how], seed).values())
    settings = SETTINGS[how]
    if how == "expert":
        shown = [suite for suite in suites if suite.kind == "harmful" and suite.prompts[0].images]
        own = own_refusals(load(folder), shown, lambda answer: by_form(answer) == "refused", MAX_NEW_TOKENS)
        return Plan(folder, own, settings, f"its own refusals to {len(own)} requests as text, learned with images")
    safe = safety(suites, REFUSAL)
    if how == "post-hoc":
        other = helpful(list(organism_helpful(_HELPFUL, seed).values()))
        return Plan(folder, [*safe, *other], settings, f"{len(safe)} of safety and {len(other)} helpful, afterwards")
    told = f"{len(safe)} of safety among {_INSTRUCTIONS} of instruction tuning, from"
    both = [*safe, *instructions(_INSTRUCTIONS, seed)]
    if has_stages(Path(folder)):
        return Plan(before_instructions(Path(folder)), both, settings, f"{told} the organism before instruction tuning")
    return Plan(folder, both, settings, f"{told} the finished organism: its folder has no stage before instructions")


def _words(folder: Path) -> set[str]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return set()
    words = json.loads(path.read_text(encoding="utf-8"))["model"].get("vocab")
    return set(words) if isinstance(words, dict) else set()
