"""From prompts to tensors: chat template, image processor, padding; the rows of an encoding; tokens back to text."""

from cmrm_interp.encoding.encoder import Batch, Encoder, PaddingSide
from cmrm_interp.encoding.reading import GivenTokens, PromptTokens

__all__ = ["Batch", "Encoder", "GivenTokens", "PaddingSide", "PromptTokens"]
