"""Direct logit attribution: against numbers by hand, and the sum that it is."""

import numpy as np
import pytest
import torch
import transformers

import cmrm_interp as ci
from cmrm_interp.attribution import Part
from cmrm_interp.attribution.sources import check_split
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.positions import at
from tests.oracles import hooks as oracle
from tests.oracles import maps
from tests.support import FAMILIES, TEXTS, close, fresh, inputs_of, model_of, network, same, twin_of, unchecked, vectors

YES, NO = 3, 5
# Layers that borrow keys and values, and cross-attention, have no split by source.
WHOLE = ("gemma4", "mllama")
BY_HAND = ("gpt2", "llama", "llava")


def found(model, inputs, by="component", tokens=(YES, NO), **how):
    return ci.direct_logit_attribution(model, inputs, tokens, by, **how)


def of(result, *part):
    """What one part adds, by prompt."""
    return result.values[:, result.parts.index(Part(*part))]


class ByHand:
    """The difference of two logits of the last token as a direction in the stream, with bare hooks and no package."""

    def __init__(self, family, tensors):
        self.hf, self.tensors = twin_of(family), tensors
        net = maps.net(self.hf)
        self.norm, head = maps.at(oracle.decoder(self.hf), net.norm), oracle.head(self.hf)
        order = tensors["attention_mask"].cumsum(1)
        self.rows, self.last = torch.arange(len(order)), (order * tensors["attention_mask"]).argmax(1)
        kept = {}
        handle = self.norm.register_forward_pre_hook(lambda module, args: kept.update(x=args[0]))
        self.states = [self.at_last(x) for x in oracle.hidden_states(self.hf, tensors)[:-1]]
        handle.remove()
        self.states.append(self.at_last(kept["x"]))
        self.w = (head.weight[YES] - head.weight[NO]).detach()
        x = self.states[-1]
        self.centred = isinstance(self.norm, torch.nn.LayerNorm)
        if self.centred:
            self.scale = (x.var(-1, correction=0, keepdim=True) + self.norm.eps).sqrt()
        else:
            self.scale = (x.pow(2).mean(-1, keepdim=True) + self.norm.variance_epsilon).sqrt()

    def at_last(self, x):
        return x[self.rows, self.last].detach()

    def added(self, part):
        """What a part of the stream, ``batch d``, adds to the difference."""
        part = part - part.mean(-1, keepdim=True) if self.centred else part
        return (part / self.scale * self.norm.weight.detach() * self.w).sum(-1)

    def read(self, *names):
        acts = oracle.read(self.hf, self.tensors, wanted=names)
        return [acts[name] for name in names]


@pytest.mark.parametrize("family", BY_HAND)
def test_layers_are_differences_of_transformers_hidden_states(family):
    model = model_of(family)
    inputs = inputs_of(model, "right")
    hand, result = ByHand(family, inputs.tensors), found(model, inputs, "layer")
    lens = [hand.added(x) for x in hand.states]
    close(of(result, "embed").float(), lens[0])
    for layer in range(model.n_layers):
        close(of(result, "block", layer).float(), lens[layer + 1] - lens[layer])
    close(result.accumulated().values[:, 1 : model.n_layers + 1].float(), torch.stack(lens[1:], 1))
    logits = model.logits(inputs)
    close(result.logits.float(), logits[:, YES] - logits[:, NO])
    bias = hand.norm.bias @ hand.w if hand.centred else torch.zeros(())
    close(of(result, "bias").float(), bias.detach().expand(len(inputs)))


@pytest.mark.parametrize("family", BY_HAND)
def test_components_heads_and_sources_by_hand(family):
    model = model_of(family)
    inputs = inputs_of(model, "right")
    hand = ByHand(family, inputs.tensors)
    by_component, by_head, by_source = (found(model, inputs, by) for by in ("component", "head", "source"))
    attn, mlp, result, v, pattern = hand.read(
        *(f"blocks.1.{name}" for name in ("hook_attn_out", "hook_mlp_out", "attn.hook_result", "attn.hook_v")),
        "blocks.1.attn.hook_pattern",
    )
    close(of(by_component, "attn", 1).float(), hand.added(hand.at_last(attn)))
    close(of(by_component, "mlp", 1).float(), hand.added(hand.at_last(mlp)))
    for head in range(model.n_heads):
        close(of(by_head, "attn", 1, head).float(), hand.added(hand.at_last(result)[:, head]))
    image = inputs.tensors["input_ids"] == getattr(model.hf.config, "image_token_id", -1)
    weight = output_weight(hand.hf).unflatten(0, (model.n_heads, -1))
    values = v.repeat_interleave(model.n_heads // v.shape[2], 2)
    for source, keys in (("image", image), ("text", ~image)):
        own = hand.at_last((pattern * keys[:, None, None]).transpose(1, 2))
        z = torch.einsum("bhk,bkhd->bhd", own, values)
        for head in (0, 3):
            close(of(by_source, "attn", 1, head, source).float(), hand.added(z[:, head] @ weight[head]))


def output_weight(hf):
    """Output projection of the second block, ``heads d_model``."""
    block = oracle.layers(hf)[1]
    return block.attn.c_proj.weight.detach() if hasattr(block, "attn") else block.self_attn.o_proj.weight.detach().T


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_add_up_to_the_models_logits(family):
    model = model_of(family)
    inputs = inputs_of(model, "right" if family != "gemma4" else "left", "apart")
    result = found(model, inputs, "head" if family in WHOLE else "source", YES)
    close(result.values.sum(1).float(), result.logits.float())
    capped = model.logits(inputs)[:, YES]
    ours = result.logits.float()
    cap = result.softcap
    assert (cap is None) == (oracle.softcap(twin_of(family)) is None)
    close(ours if cap is None else cap * torch.tanh(ours / cap), capped)
    assert ("before the soft cap" in repr(result)) == (cap is not None)


@pytest.mark.parametrize("family", ["gemma4", "gemma2", "mllama", "aya_vision", "opt"])
def test_finer_parts_add_up_to_coarser_ones(family):
    model = model_of(family)
    inputs = inputs_of(model)
    by_layer, by_component, by_head = (found(model, inputs, by) for by in ("layer", "component", "head"))
    for result in (by_component, by_head):
        for layer in range(model.n_layers):
            mine = [i for i, part in enumerate(result.parts) if part.layer == layer]
            close(result.values[:, mine].sum(1), of(by_layer, "block", layer))
    heads = by_head.summed("layer")
    bias = of(heads, "attn_bias", 1) if Part("attn_bias", 1) in heads.parts else 0
    close(of(heads, "attn", 1) + bias, of(by_component, "attn", 1))
    assert found(model, inputs, "component").rounding < 1e-5


COMMON = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "pad_token_id": 0}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": None, "bos_token_id": None}


@pytest.mark.parametrize(
    "config",
    [
        transformers.GraniteConfig(**COMMON, **HEADS, logits_scaling=8.0, residual_multiplier=0.3),
        transformers.CohereConfig(**COMMON, **HEADS, logit_scale=0.25),
    ],
)
def test_what_a_model_multiplies_its_logits_by_is_part_of_it(config):
    torch.manual_seed(0)
    hf = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = ci.load((hf, None))
    inputs = model.from_encoding({"input_ids": torch.randint(1, 60, (3, 7))})
    result = found(model, inputs, "source")
    logits = model.logits(inputs)
    close(result.values.sum(1).float(), logits[:, YES] - logits[:, NO])
    assert result.softcap is None


def test_tokens_of_each_prompt_and_by_name():
    model = model_of("llava")
    inputs = inputs_of(model)
    logits = model.logits(inputs)
    each = found(model, inputs, tokens=[(3, 5), (6, 7), (8, 9)], batch_size=2)
    close(each.logits.float(), logits[range(3), [3, 6, 8]] - logits[range(3), [5, 7, 9]])
    close(each.values.sum(1), each.logits)
    named = found(model, inputs, tokens=("cats", "dogs"))
    assert named.label == "logit 'cats' - 'dogs'"
    ids = model.tokenizer.convert_tokens_to_ids(["cats", "dogs"])
    close(named.logits.float(), logits[:, ids[0]] - logits[:, ids[1]])


def test_ids_come_as_arrays_and_tensors():
    model = model_of("llava")
    inputs = inputs_of(model)
    wanted = found(model, inputs, tokens=[3, 5, 6]).values
    with unchecked():
        same(found(model, inputs, tokens=torch.tensor([3, 5, 6])).values, wanted)
        same(found(model, inputs, tokens=[torch.tensor(3), np.int64(5), 6]).values, wanted)
        same(found(model, inputs, tokens=np.int64(3)).values[0], wanted[0])


@pytest.mark.parametrize("hook", ["ln_final.hook_scale", "ln_final.hook_normalized", "unembed.hook_out"])
def test_what_acts_behind_the_last_block_is_refused(hook):
    model = model_of("llava")
    double = ci.Hook(hook, lambda x, _: 2 * x)
    for ask in (lambda: found(model, inputs_of(model), interventions=double), lambda: lens(model, double)):
        with pytest.raises(HookPointError, match=rf"Hook acts at '{hook}', behind the last block.*use model.logits"):
            ask()


def lens(model, acting):
    return ci.logit_lens(model, inputs_of(model), interventions=acting)


def test_logits_that_are_no_numbers_are_said():
    model = model_of("llava")
    broken = ci.Hook("blocks.1.hook_resid_post", lambda x, _: x * torch.nan)
    with pytest.raises(ModelError, match=r"gives logits that are not numbers \(NaN\): in torch.float32"):
        found(model, inputs_of(model), interventions=broken)
    with pytest.raises(ModelError, match=r"the logits at layer 1 are not numbers \(NaN\): in torch.float32"):
        lens(model, broken)


def test_positions_are_means_over_their_tokens():
    model = model_of("llava")
    inputs = inputs_of(model)
    every = model.logits(inputs, positions="all")[..., YES]
    result = found(model, inputs, tokens=YES, positions="image")
    image = inputs.mask("image")
    assert result.prompts == (0, 2)
    close(result.logits.float(), torch.stack([every[row][image[row]].mean() for row in (0, 2)]))
    close(result.values.sum(1), result.logits)
    by_source = found(model, inputs, "source", YES, positions=at(-1) | at(-2))
    close(by_source.logits.float(), every[:, -2:].mean(1))
    close(by_source.values.sum(1), by_source.logits)
    with pytest.raises(HookPointError, match=r"none of these 3 prompts has a token at 'image'"):
        found(model, inputs.without_images(), positions="image")


def test_sources_of_ones_own():
    model = model_of("llava")
    inputs = inputs_of(model)
    default = found(model, inputs, "source")
    assert {part.source for part in default.parts} == {None, "image", "text"}
    assert of(default, "attn", 0, 1, "image")[1] == 0
    own = found(model, inputs, "source", sources={"first": "first", "image": "image"})
    assert {part.source for part in own.parts} == {None, "first", "image", "rest"}
    same(of(own, "attn", 1, 2, "image"), of(default, "attn", 1, 2, "image"))
    text = of(own, "attn", 1, 2, "first") + of(own, "attn", 1, 2, "rest")
    close(text, of(default, "attn", 1, 2, "text"))
    with pytest.raises(InputError, match="sources image, prompt overlap"):
        found(model, inputs, "source", sources={"image": "image", "prompt": "prompt"})
    with pytest.raises(InputError, match="for by='source', none of them 'rest'"):
        found(model, inputs, "head", sources={"image": "image"})


def test_a_part_that_is_taken_away_takes_its_share_along():
    """With the last norm's scale held, ablating a head changes the logit by what is attributed to it."""
    model = model_of("llava")
    inputs = inputs_of(model)
    last = f"blocks.{model.n_layers - 1}"
    result = found(model, inputs, tokens=YES)
    scale = model.capture(inputs, "ln_final.hook_scale", positions="all")["ln_final.hook_scale"]
    held = ci.Hook("ln_final.hook_scale", lambda x, _: scale)
    without = model.logits(inputs, [ci.Ablate(f"{last}.hook_mlp_out"), held])[:, YES]
    close(model.logits(inputs)[:, YES] - without, of(result, "mlp", model.n_layers - 1).float())


@pytest.mark.parametrize("by", ["component", "head", "source"])
@pytest.mark.parametrize("family", ["llava", "gemma4"])
def test_what_interventions_do_is_a_part(family, by):
    model = model_of(family)
    inputs, by = inputs_of(model), "head" if family == "gemma4" else by
    steer = ci.Subtract(vectors(model, "blocks.1.hook_resid_post"), alpha=0.5)
    cut = ci.Knockout("last", "image", layers=[0])
    result = found(model, inputs, by, interventions=[cut, steer])
    logits = model.logits(inputs, [cut, steer])
    close(result.values.sum(1), result.logits)
    if family == "llava":
        close(result.logits.float(), logits[:, YES] - logits[:, NO])
        # The vector through the last norm, whose scale is that of the steered run.
        x = model.capture(inputs, "blocks.3.hook_resid_post", interventions=[cut, steer])["blocks.3.hook_resid_post"]
        norm, head = model.hf.model.language_model.norm, model.hf.lm_head.weight.detach()
        scale = (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
        vector = -0.5 * steer.directions["blocks.1.hook_resid_post"]
        close(of(result, "edit", 1).float(), (vector / scale * norm.weight.detach()) @ (head[YES] - head[NO]))
    close(of(result, "edit", 0), torch.zeros(len(inputs)).double())
    assert of(result, "edit", 1).abs().min() > 1e-3


def test_tables_and_figures():
    model = model_of("llava")
    inputs = inputs_of(model)
    table = found(model, inputs).table()
    assert list(table) == ["component", "layer", "value", "low", "high", "n"]
    assert table["component"].tolist()[:3] == ["embed", "attn", "mlp"]
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    heads = found(model, inputs, "head")
    assert {"layer", "head"} < set(heads.table())
    assert heads.plot().axes[-1].get_ylabel().endswith("(nats)")
    sources = found(model, inputs, "source")
    figure = sources.plot()
    assert [text.get_text() for text in figure.legends[0].texts] == ["image", "text"]
    by_source = sources.summed("source")
    assert [(p.component, p.source) for p in by_source.parts if p.component == "attn"] == [
        ("attn", "image"),
        ("attn", "text"),
    ]
    close(by_source.values.sum(1), sources.values.sum(1))
    assert found(model, inputs, "layer").plot().axes
    with pytest.raises(InputError, match="heads of a layer work side by side"):
        heads.accumulated()
    with pytest.raises(InputError, match="parts have no 'neuron'"):
        heads.summed("neuron")
    with pytest.raises(InputError, match="nothing to draw over the layer"):
        by_source.plot()
    assert found(model, model.prepare("what is it")).table()["low"].isna().all()


def test_what_cannot_be_asked():
    model = model_of("llava")
    inputs = inputs_of(model)
    for tokens, words in (
        (("cats", "dogs", "you"), r"give a token, or a pair of tokens \(yes, no\)"),
        ([(3, 5)], "1 entries in tokens for 3 prompts"),
        ((3, 3), "both are the same token"),
        ("cats dogs", "2 tokens"),
        ([3, (3, 5), 4], "tokens holds single tokens and pairs"),
        (10**6, "no token 1000000"),
    ):
        with pytest.raises(InputError, match=words):
            found(model, inputs, tokens=tokens)
    with pytest.raises(InputError, match="by='neuron': use 'component', 'head', 'layer', 'source'"), unchecked():
        found(model, inputs, "neuron")
    with pytest.raises(InputError, match="has no argument 'position': use tokens, by, positions, interventions"):
        found(model, inputs, position="last")
    with pytest.raises(HookPointError, match=r"no 'blocks.2.attn.hook_v'.*use by='head'"):
        found(model_of("gemma4"), inputs_of(model_of("gemma4")), "source")
    with pytest.raises(HookPointError, match="by cross-attention"):
        found(model_of("mllama"), inputs_of(model_of("mllama")), "source")
    with pytest.raises(ModelError, match="attn_implementation='eager'"):
        found(fresh("llava", eager=False), inputs, "source")


def test_a_head_that_does_more_than_multiply_is_refused():
    hf, processor = network("llava")

    class Squared(torch.nn.Linear):
        def forward(self, x):
            out = super().forward(x)
            return out + out.pow(2)

    hf.lm_head.__class__ = Squared
    model = ci.load((hf, processor), check=False)
    with pytest.raises(ModelError, match="its head does more than multiply by its weights"):
        found(model, model.prepare(TEXTS))


def test_values_that_are_changed_before_they_are_weighed_are_refused():
    model = model_of("llava")
    split = {2: torch.ones(3, 2, 4, 8)}
    check_split(split, {2: torch.full((3, 4, 8), 2.0)})
    with pytest.raises(ModelError, match="block 2 does more to its values than weigh them by the pattern"):
        check_split(split, {2: torch.full((3, 4, 8), 2.1)})
    # Patterns are captured after what is done to them, and so is z.
    assert found(model, inputs_of(model), "source").rounding < 1e-5


def test_a_stream_that_is_added_to_in_secret_is_refused():
    hf, processor = network("llava")
    hf.model.language_model.layers[1].register_forward_hook(lambda module, args, out: out + 1)
    model = ci.load((hf, processor), check=False)
    inputs = model.prepare(TEXTS)
    with pytest.raises(ModelError, match=r"the parts of the logit add up to something else \(by .*\)"):
        found(model, inputs)
    # Whole blocks are told by the stream itself.
    assert found(model, inputs, "layer").rounding < 1e-5


def test_weights_that_are_not_there_are_refused(tmp_path):
    hf, processor = network("llama")
    hf.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    elsewhere = ci.load(str(tmp_path), remote="local")
    with pytest.raises(ModelError, match="needs the model's weights here, and this model runs elsewhere"):
        found(elsewhere, elsewhere.prepare(TEXTS))
    hf.lm_head.weight = torch.nn.Parameter(torch.zeros(hf.lm_head.weight.shape, dtype=torch.int8), requires_grad=False)
    quantised = ci.load((hf, processor), check=False)
    with pytest.raises(ModelError, match="needs the weights of lm_head, which are not there or quantised"):
        found(quantised, quantised.prepare(TEXTS))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_and_no_more(dtype):
    hf, processor = network("gemma2")
    model = ci.load((hf.to(dtype), processor), check=False)
    result = found(model, inputs_of(model), "head")
    assert 0 < result.rounding < 0.01 * float(result.values.abs().sum(1).max())
    exact = found(model_of("gemma2"), inputs_of(model_of("gemma2")), "head")
    assert (result.values - exact.values).abs().max() < 0.2
