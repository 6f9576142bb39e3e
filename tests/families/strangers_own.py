"""A vision-language model with code of its own, as remote code brings it: none of transformers' parts inside."""

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from cmrm_interp.families.tiny.parts import randomise
from tests.families.strangers import BOS, IMAGE, PAD


class OwnConfig(PreTrainedConfig):
    """Sizes of text and vision side."""

    model_type = "own_vlm"

    def __init__(self, image_token_id: int = IMAGE, **kwargs):
        """All sizes are fixed."""
        self.vocab_size, self.hidden_size, self.num_hidden_layers, self.num_attention_heads = 60, 32, 3, 4
        self.image_token_id, self.head_dim, self.vision_depth, self.vision_width = image_token_id, 8, 2, 24
        super().__init__(**kwargs)


class Attention(nn.Module):
    """Attention with its scores in its own hands."""

    def __init__(self, width: int, heads: int):
        """Projections."""
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x, hidden=None):
        """Of `x` to itself; `hidden` is true where a key may not be seen."""
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self._projections)
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        if hidden is not None:
            scores = scores.masked_fill(hidden, torch.finfo(x.dtype).min)
        return self.o_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    @property
    def _projections(self):
        return self.q_proj, self.k_proj, self.v_proj


class Mlp(nn.Module):
    """Two layers."""

    def __init__(self, width: int):
        """Projections."""
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 48), nn.Linear(48, width)

    def forward(self, x):
        """Of `x`."""
        return self.fc2(torch.nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention, then MLP."""

    def __init__(self, width: int, heads: int):
        """Parts."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)

    def forward(self, x, hidden=None):
        """Stream in, stream out."""
        x = x + self.attn(self.norm1(x), hidden)
        return x + self.mlp(self.norm2(x))


class OwnTower(nn.Module):
    """Patches of four pixels."""

    def __init__(self, config: OwnConfig):
        """Parts."""
        super().__init__()
        self.patches = nn.Linear(48, config.vision_width)
        self.blocks = nn.ModuleList(Block(config.vision_width, 2) for _ in range(config.vision_depth))

    def forward(self, pixels):
        """``image 3 16 16`` to ``image 16 width``."""
        x = self.patches(nn.functional.unfold(pixels, 4, stride=4).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        return x


class OwnVlm(PreTrainedModel, GenerationMixin):
    """Everything in one class, without a cache."""

    config_class = OwnConfig
    main_input_name = "input_ids"

    def __init__(self, config: OwnConfig):
        """Parts."""
        super().__init__(config)
        self.vision_tower = OwnTower(config)
        self.mm_projector = nn.Linear(config.vision_width, config.hidden_size)
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config.hidden_size, 4) for _ in range(config.num_hidden_layers))
        self.ln_f = nn.LayerNorm(config.hidden_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        """Token embedding."""
        return self.wte

    def get_output_embeddings(self):
        """Head."""
        return self.lm_head

    def forward(self, input_ids, attention_mask=None, pixel_values=None, output_hidden_states=False, **kwargs):
        """Logits."""
        x = self.wte(input_ids)
        if pixel_values is not None:
            x = x.masked_scatter((input_ids == IMAGE)[..., None], self.mm_projector(self.vision_tower(pixel_values)))
        n = input_ids.shape[1]
        hidden = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)[None, None]
        if attention_mask is not None:
            hidden = hidden | (attention_mask == 0)[:, None, None]
        states = [x]
        for block in self.blocks:
            states.append(block(states[-1], hidden))
        logits = self.lm_head(self.ln_f(states[-1]))
        return CausalLMOutputWithPast(logits=logits, hidden_states=tuple(states) if output_hidden_states else None)

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, pixel_values=None, **kwargs):
        """All of the tokens again, each time."""
        return {"input_ids": input_ids, "attention_mask": attention_mask, "pixel_values": pixel_values}


def own():
    """The model, and an encoding of an image row and a text row."""
    hf = OwnVlm(OwnConfig(pad_token_id=PAD, bos_token_id=BOS, eos_token_id=2)).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        randomise(hf)
    hf.generation_config.eos_token_id = None
    row, text = [BOS, 5, 6, *[IMAGE] * 16, 7, 8, 9], [BOS, 5, 6, 11, 12]
    padding = len(row) - len(text)
    pixels = torch.randn((1, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    return hf, {
        "input_ids": torch.tensor([row, [PAD] * padding + text]),
        "attention_mask": torch.tensor([[1] * len(row), [0] * padding + [1] * len(text)]),
        "pixel_values": pixels,
    }
