"""Original LLaVA 1.x and ShareGPT4V checkpoints to Hugging Face LLaVA ones.

The tensors are the same numbers in the same types under other names (a tower from elsewhere gets the language
model's type, as in the original code), and the logits of the old vocabulary are the same. What is new:

* tokens ``<image>`` and, unless the tokenizer has one that means nothing else, ``<pad>``; rows for them and for
  rounding the vocabulary up to a multiple of 64. A new row, of embeddings and of output layer, is the mean of the old
  ones: its logit is the mean logit, so that it is never the largest. (Hugging Face's script draws around the mean.)
* one linear map as projector (the first LLaVA) becomes the first of two layers, with no activation between them and
  an identity as the second, which changes no bit.
* LLaVA 1.5's chat template (no system prompt), with ``<im_start>`` and ``<im_end>`` where the original used them;
  images are padded to squares where the original did so (llava-hf's own versions crop them instead).
"""

from cmrm_interp.convert.llava import convert

__all__ = ["convert"]
