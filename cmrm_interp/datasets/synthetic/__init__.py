"""The synthetic world of the model organism: made-up words, requests, pictures, verdicts; no model needed."""

from cmrm_interp.datasets.synthetic.pictures import (
    CAPTION_PROMPTS,
    Scene,
    Shape,
    VisualQuestion,
    caption,
    scenes,
    visual_questions,
)
from cmrm_interp.datasets.synthetic.requests import (
    KINDS,
    REFUSAL,
    Kind,
    Question,
    Request,
    knowledge_questions,
    requests,
)
from cmrm_interp.datasets.synthetic.verdicts import Verdict, is_right, normalize, verdict
from cmrm_interp.datasets.synthetic.words import GROUPS, SPLITS, WORLD, Group, Split, Word, words

__all__ = [
    "CAPTION_PROMPTS",
    "GROUPS",
    "KINDS",
    "REFUSAL",
    "SPLITS",
    "WORLD",
    "Group",
    "Kind",
    "Question",
    "Request",
    "Scene",
    "Shape",
    "Split",
    "Verdict",
    "VisualQuestion",
    "Word",
    "caption",
    "is_right",
    "knowledge_questions",
    "normalize",
    "requests",
    "scenes",
    "verdict",
    "visual_questions",
    "words",
]
