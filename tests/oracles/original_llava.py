"""LLaVA as its first authors wrote it: a tower, a projector, and a Llama that is given embeddings.

Follows ``llava/model/llava_arch.py`` of haotian-liu/LLaVA, which ShareGPT4V copies: the image is token -200, its
features are put in its place, and there is no image token in the vocabulary.
"""

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

IMAGE = -200


class OriginalLlava(nn.Module):
    """Logits of one prompt with images, in the vocabulary of the language model."""

    def __init__(self, config, vision):
        super().__init__()
        self.config = config
        text = {name: value for name, value in config.items() if not name.startswith("mm_")}
        text = {name: value for name, value in text.items() if name not in ("architectures", "model_type")}
        self.llm = LlamaForCausalLM(LlamaConfig(**text))
        self.tower = CLIPVisionModel(CLIPVisionConfig(**vision))
        width = config["hidden_size"]
        first = nn.Linear(config["mm_hidden_size"], width)
        linear = config.get("mm_projector_type", "linear") == "linear"
        self.projector = first if linear else nn.Sequential(first, nn.GELU(), nn.Linear(width, width))

    def stored(self):
        """The state dict as releases store it; the tower's part, by its own names, apart."""
        whole = {name: t.clone() for name, t in self.llm.state_dict().items()}
        whole |= {f"model.mm_projector.{name}": t.clone() for name, t in self.projector.state_dict().items()}
        tower = {name.removeprefix("vision_model."): t for name, t in self.tower.state_dict().items()}
        return whole, {f"vision_model.{name}": t.clone() for name, t in tower.items()}

    @torch.no_grad()
    def forward(self, ids, pixels=None):
        """Logits ``pos vocab`` of ``ids`` (a list) with one image for each -200."""
        parts, images = [], iter(() if pixels is None else self.features(pixels))
        for token in ids:
            parts.append(next(images) if token == IMAGE else self.llm.model.embed_tokens(torch.tensor([token])))
        return self.llm(inputs_embeds=torch.cat(parts)[None]).logits[0]

    def features(self, pixels):
        states = self.tower(pixels, output_hidden_states=True).hidden_states[self.config["mm_vision_select_layer"]]
        patches = states if self.config.get("mm_vision_select_feature") == "cls_patch" else states[:, 1:]
        return self.projector(patches)

    def greedy(self, ids, pixels, n):
        """The n most likely next tokens, one after the other, without a cache."""
        made = []
        for _ in range(n):
            made.append(int(self(list(ids) + made, pixels)[-1].argmax()))
        return made


def expand2square(image, mean):
    """How the original pads an image: on a square of the mean colour, in the middle."""
    from PIL import Image

    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(x * 255) for x in mean))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
