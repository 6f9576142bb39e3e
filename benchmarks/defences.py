"""Every defence side by side on three training seeds of the model organism; ``make compare`` makes docs/defences.md.

Organisms and fine-tuned checkpoints are made where they are not there yet. What is there already is not done again:
recipes that are added later are run alone, and seeds may run in processes of their own (``--seed``).
"""

import argparse
import shutil
from pathlib import Path

import torch

import cmrm_interp as ci
from benchmarks.safety import SEEDS, SHIPPED, organism
from cmrm_interp.compare.long import write_long
from cmrm_interp.compare.page import write_page
from cmrm_interp.families.load import organism_folder
from cmrm_interp.finetuning import finetune
from cmrm_interp.organism import defended


def main() -> None:
    """Make what is missing, compare, and write report and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/defences"), help="folder of organisms, logs and tables")
    parser.add_argument("--n", type=int, default=300, help="test prompts a suite")
    parser.add_argument("--seed", type=int, action="append", help="a training seed; again for several; all without")
    parser.add_argument("--recipe", action="append", help="spec of a recipe; again for several; all without")
    parser.add_argument("--page", type=Path, help="page of the documentation to write the numbers into")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    models = {f"seed-{seed}": with_checkpoints(seed, asked.out) for seed in asked.seed or SEEDS}
    compared = asked.out / "compared"
    print(ci.compare(models, asked.recipe, out=compared, n=asked.n).table().T.to_string())
    whole = ci.Comparison.of(compared)
    whole.save(asked.out / "report")
    if asked.page:
        write_page(whole, asked.page)
        # From here the pages of the recipes have their numbers.
        write_long(whole, organism_folder() / "defences.csv")


def with_checkpoints(seed: int, out: Path) -> Path:
    """The folder of an organism with its fine-tuned checkpoints; what is not there is trained."""
    folder = out / "organisms" / f"seed-{seed}"
    if seed == SHIPPED and not folder.exists():
        # A copy, since the checkpoints are put into it.
        shutil.copytree(organism_folder(), folder)
    folder = organism(seed, out)
    for how in defended.HOW:
        checkpoint = folder / "finetuned" / how
        if not (checkpoint / "config.json").exists():
            plan = defended.plan(str(folder), how)
            finetune(plan.source, plan.examples, checkpoint, plan.settings)
    return folder


if __name__ == "__main__":
    main()
