"""What comes after the head: as models are told to do it, whatever the size of their logits."""

import pytest
import torch
import transformers

import cmrm_interp as ci
from cmrm_interp.after_head import AfterHead
from cmrm_interp.errors import ModelError
from tests.support import close, inputs_of, model_of, network

COMMON = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "pad_token_id": 0}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": None, "bos_token_id": None}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (transformers.GraniteConfig(**COMMON, **HEADS, logits_scaling=8.0), AfterHead(1 / 8)),
        (transformers.CohereConfig(**COMMON, **HEADS, logit_scale=0.25), AfterHead(0.25)),
    ],
)
def test_factors(config, wanted):
    torch.manual_seed(0)
    model = ci.load((transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager"), None))
    assert AfterHead.of(model, model.from_encoding({"input_ids": torch.randint(1, 60, (3, 7))})) == wanted


@pytest.mark.parametrize(
    ("family", "wanted"),
    [("llama", AfterHead()), ("gemma2", AfterHead(softcap=5.0)), ("aya_vision", AfterHead())],  # Aya names a factor
)
def test_what_is_named_and_applied(family, wanted):
    assert AfterHead.of(model_of(family), inputs_of(model_of(family))) == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cap_that_these_logits_hardly_feel_is_found(dtype):
    hf, processor = network("gemma2")
    hf.lm_head.weight = torch.nn.Parameter(hf.lm_head.weight.detach() * 1e-3)  # of its own: embeddings stay as they are
    model = ci.load((hf.to(dtype), processor), check=False)
    inputs = inputs_of(model)
    assert AfterHead.of(model, inputs).softcap == 5
    found = ci.logit_lens(model, inputs, keep_logits=True).logits(-1)
    close(found.float(), model.logits(inputs).float(), slack=1000 if dtype == torch.bfloat16 else 1)


def test_factor_first_and_cap_after():
    x = torch.tensor([[-50.0, 0.0, 3.0, 80.0]])
    close(AfterHead(0.5, 10.0)(x), 10 * torch.tanh(0.5 * x / 10))


def test_something_else_is_said():
    hf, processor = network("llama")
    hf.register_forward_hook(lambda module, args, out: out.__setitem__("logits", out.logits.sin()))
    model = ci.load((hf, processor), check=False)
    for ask in (
        lambda: ci.logit_lens(model, inputs_of(model)),
        lambda: ci.direct_logit_attribution(model, inputs_of(model), 3),
    ):
        with pytest.raises(ModelError, match="does something to its head's output that is not known here"):
            ask()
