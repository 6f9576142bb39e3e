"""Which models are compared, and which hook points have to be among those that both sides have."""

from dataclasses import dataclass

STREAM = "hook_resid_pre hook_attn_out hook_resid_mid hook_mlp_out hook_resid_post".split()
ATTENTION = [f"attn.hook_{name}" for name in "q k v attn_scores pattern z result".split()]
NORMS = [f"{norm}.hook_{name}" for norm in ("ln1", "ln2") for name in ("scale", "normalized")]
GATED = [f"mlp.hook_{name}" for name in "pre pre_linear post".split()]
PLAIN = ["mlp.hook_pre", "mlp.hook_post"]
ENDS = ["hook_embed", "ln_final.hook_scale", "ln_final.hook_normalized", "ln_final.hook_out", "unembed.hook_out"]
SIGHT = [f"vision.blocks.*.{name}" for name in STREAM] + ["vision.hook_out", "projector.hook_out"]


@dataclass(frozen=True)
class Model:
    """A tiny model on which both sides are run.

    Attributes:
        family: its name among `cmrm_interp.families.tiny`.
        images: whether the prompts have an image each.
        required: hook points that must be compared, ``*`` for every layer.
        native: whether TransformerLens leaves attention to transformers. It then sees patterns after they were used,
            and under the name of the scores, so that neither scores nor writes to them can be compared.
        patching: whether both sides' patching is run on a prompt with an image, too.
    """

    family: str
    required: tuple[str, ...]
    images: bool = False
    native: bool = False
    patching: bool = False


def _points(*inside: str, ends: tuple[str, ...] = ()) -> tuple[str, ...]:
    return (*ENDS, *ends, *(f"blocks.*.{name}" for name in inside))


_DECODER = _points(*STREAM, *ATTENTION, *NORMS, *GATED)
_AFTER = ("blocks.*.attn.hook_out", "blocks.*.mlp.hook_out")
_MIXTURE = (*(name for name in _DECODER if ".mlp." not in name), "blocks.*.mlp.hook_router")
_NATIVE = tuple(name for name in _DECODER if not name.endswith(("hook_attn_scores", "hook_result")))

MODELS = (
    Model("llava", (*_DECODER, *SIGHT), images=True, patching=True),
    Model("llava_next", (*_DECODER, *SIGHT), images=True),
    Model("llava_onevision", (*_DECODER, *SIGHT), images=True),
    Model("gemma3", (*_DECODER, *_AFTER, *SIGHT), images=True),
    Model("idefics3", (*_DECODER, *SIGHT), images=True),
    Model("qwen2_5_vl", _NATIVE, native=True),
    Model("qwen3_vl", _NATIVE, native=True),
    Model("llama", _DECODER),
    Model("mistral", _DECODER),
    Model("qwen3", _DECODER),
    Model("qwen3_moe", _MIXTURE),
    Model("gemma2", (*_DECODER, *_AFTER)),
    Model("gpt2", _points(*STREAM, *ATTENTION, *NORMS, *PLAIN, ends=("hook_pos_embed",))),
)
