"""The organism's tokenizer (one token a word) and processor, in the formats which the Auto classes load."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

from cmrm_interp.datasets.synthetic.lexicon import lexicon
from cmrm_interp.datasets.synthetic.pictures import SIZE
from cmrm_interp.organism.config import IMAGE_MEAN, IMAGE_STD, ModelConfig

PAD, BOS, EOS, UNK, IMAGE, USER, ASSISTANT = "<pad>", "<s>", "</s>", "<unk>", "<image>", "USER:", "ASSISTANT:"
SPECIAL = (PAD, BOS, EOS, UNK, IMAGE, USER, ASSISTANT)
MAX_TOKENS = 256

# The template itself writes <s>, and the tokenizer never adds one: every route to token ids has exactly one.
CHAT_TEMPLATE = """\
{{ bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{ ' USER:' }}{% endif %}
{%- if message['role'] == 'assistant' %}{{ ' ASSISTANT:' }}{% endif %}
{%- if message['content'] is string %}{{ ' ' + message['content'] }}
{%- else %}
{%- for item in message['content'] if item['type'] == 'image' %}{{ ' <image>' }}{% endfor %}
{%- for item in message['content'] if item['type'] == 'text' %}{{ ' ' + item['text'] }}{% endfor %}
{%- endif %}
{%- if message['role'] == 'assistant' %}{{ ' ' + eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"""


def vocabulary() -> dict[str, int]:
    """Token ids: the special tokens, then every token of the synthetic world in alphabetical order."""
    return {token: number for number, token in enumerate((*SPECIAL, *lexicon()))}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer: lower case, punctuation apart, unknown words to ``<unk>``; left padding."""
    backend = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNK))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[^\w\s]"), "isolated")]
    )
    # Joins words by spaces and puts punctuation back where it belongs.
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=MAX_TOKENS,
        extra_special_tokens={"image_token": IMAGE},
    )


def build_processor(config: ModelConfig) -> LlavaProcessor:
    """The processor: the tokenizer, and pictures scaled to the tower's size by PIL.

    Args:
        config: sizes of the model; the patch decides how many tokens an image takes.
    """
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=build_tokenizer(),
        patch_size=config.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the tower's class token, which "default" drops again
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE,
    )
