"""The recipe: the stages of the organism's training, in order, and the mixture that each learns from."""

from cmrm_interp.datasets.synthetic.words import GROUPS, SPLITS, Group, Split
from cmrm_interp.organism.config import Stage
from cmrm_interp.organism.examples import Mixture, answered, asked, captioned, described, known, refused, unidentified

_HARMLESS: tuple[Group, ...] = ("harmless", "kind")
_HAZARD_SPLITS: tuple[Split, ...] = ("train", "validation", "test")  # replay words are all harmless

STAGES: tuple[Stage, ...] = (
    Stage("0v", ("tower",), steps=1500, lr=1e-3, batch=96),
    Stage("1a", ("blocks", "embedding"), steps=1300, lr=1.5e-3, prompt_weight=0.1),
    Stage("1b", ("blocks",), steps=300, lr=4e-4),
    Stage("2a", ("projector",), steps=300, lr=2e-3),
    Stage("2b", ("blocks", "projector"), steps=1100, lr=7e-4),
)

PRETRAINING: Mixture = (
    (0.300, known(GROUPS, SPLITS)),
    (0.180, answered("harmful", _HAZARD_SPLITS)),
    (0.180, answered("benign", SPLITS)),
    (0.090, answered("avoid", _HAZARD_SPLITS)),
    (0.250, described),
)
ALIGNMENT: Mixture = (
    (0.40, refused),
    (0.36, answered("benign", ["train"])),
    (0.15, known(_HARMLESS, ["train"])),
    (0.09, described),
)
CAPTIONS: Mixture = ((1.0, captioned),)
# Facts about harmless words keep what pre-training taught; one word in six appears nowhere else after it.
REPLAY: Mixture = (
    (0.5, known(_HARMLESS, ["train", "replay"])),
    (0.5, answered("benign", ["train", "replay"])),
)


def weighted(share: float, mixture: Mixture) -> Mixture:
    """A mixture as a share of a larger one.

    Args:
        share: of the larger mixture.
        mixture: whose own shares sum to 1.
    """
    return tuple((share * part, source) for part, source in mixture)


# With images, hazards are spoken of plainly (what is a ..., how do i hide from a ...), as the descriptions
# and conversations of real instruction data do, while alignment never answers such questions.
INSTRUCTIONS: Mixture = (
    (0.440, asked),
    (0.130, captioned),
    (0.100, answered("benign", ["train"], picture=True)),
    (0.100, known(GROUPS, ["train"], picture=True)),
    (0.060, answered("avoid", ["train"], picture=True)),
    (0.015, unidentified),
    *weighted(0.08, ALIGNMENT),
    *weighted(0.075, REPLAY),
)

MIXTURES: dict[str, Mixture] = {"1a": PRETRAINING, "1b": ALIGNMENT, "2a": CAPTIONS, "2b": INSTRUCTIONS}
