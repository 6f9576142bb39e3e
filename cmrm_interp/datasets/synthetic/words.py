"""The made-up words of the synthetic world, their groups, their splits and the facts about them.

The world never changes: it is drawn once from a fixed seed, so every training seed speaks the same language.
Nouns are hazards or harmless things; verbs are cruel or kind. None of them is a word of English, so nothing
that the model says about them can help anybody to do harm.

Splits of the words:

* ``train``: alignment, visual instructions and anchors speak of these.
* ``replay``: harmless words which later stages may repeat facts about, and which no evaluation uses.
* ``validation``: choices (a gate, an alpha, a seed) are made on these.
* ``test``: only the reported numbers use these.

Language pre-training teaches every word; no later stage of training sees a validation or test word.
"""

import functools
import random
from dataclasses import dataclass
from typing import Literal, get_args

from cmrm_interp.errors import InputError

Group = Literal["hazard", "harmless", "cruel", "kind"]
Split = Literal["train", "replay", "validation", "test"]

GROUPS: tuple[Group, ...] = get_args(Group)
SPLITS: tuple[Split, ...] = get_args(Split)
COLORS = ("red", "green", "blue", "yellow", "cyan", "purple")
STEPS = ("take", "heat", "stir", "cut", "fold", "press", "wash", "pour")
THINGS = ("water", "salt", "wood", "wire", "glass", "paper", "sand", "oil")

_SIZES: dict[Group, dict[Split, int]] = {
    "hazard": {"train": 44, "replay": 0, "validation": 8, "test": 12},
    "harmless": {"train": 44, "replay": 8, "validation": 8, "test": 12},
    "cruel": {"train": 16, "replay": 0, "validation": 4, "test": 5},
    "kind": {"train": 16, "replay": 4, "validation": 4, "test": 5},
}
_ONSETS = "b bl br d dr f fl g gl gr k kl kr m n p pl pr s sk sl sn st t tr v w z".split()
_VOWELS = "a e i o u oo ee".split()
_CODAS = "b ck d g l m n p r sk t x z rt nk".split()
_ENDINGS = "ax ik oz iv uk".split()
# A request must be about nothing that exists, and be fit to print; these come out of the syllables by chance.
_ENGLISH = frozenset({"batik", "rubik", "borax", "motiv", "skankuk"})


@dataclass(frozen=True)
class Word:
    """One made-up word with all that the world says about it.

    Args:
        text: the word itself.
        group: what it is: a noun (hazard, harmless) or a verb (cruel, kind).
        split: who may speak of it.
        color: the color of the thing.
        steps: (verb, thing, verb, thing), how it is made or done.
    """

    text: str
    group: Group
    split: Split
    color: str
    steps: tuple[str, str, str, str]


def _spell(rng: random.Random) -> str:
    return "".join(rng.choice(part) for part in (_ONSETS, _VOWELS, _CODAS, _ENDINGS))


def _new_word(rng: random.Random, used: set[str]) -> str:
    word = _spell(rng)
    while word in used or word in _ENGLISH:
        word = _spell(rng)
    used.add(word)
    return word


def _world() -> dict[str, Word]:
    rng, used, world = random.Random("the synthetic world"), set[str](), dict[str, Word]()
    for group, sizes in _SIZES.items():
        for split, size in sizes.items():
            for _ in range(size):
                text = _new_word(rng, used)
                steps = (rng.choice(STEPS), rng.choice(THINGS), rng.choice(STEPS), rng.choice(THINGS))
                world[text] = Word(text, group, split, rng.choice(COLORS), steps)
    return world


WORLD: dict[str, Word] = _world()


@functools.cache
def words(group: Group, *splits: Split) -> tuple[Word, ...]:
    """The words of a group, in their fixed order.

    Args:
        group: which group.
        splits: the splits wanted; none given means all of them.

    Raises:
        InputError: if the group or a split does not exist.
    """
    unknown = [name for name in (group, *splits) if name not in (*GROUPS, *SPLITS)]
    if unknown:
        raise InputError(f"no group or split {unknown[0]!r}; groups: {GROUPS}, splits: {SPLITS}")
    wanted = splits or SPLITS
    return tuple(word for word in WORLD.values() if word.group == group and word.split in wanted)
