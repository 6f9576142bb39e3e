"""Tokenizer, image processor and chat template of a converted checkpoint."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from cmrm_interp.errors import ModelError
from cmrm_interp.families.llava import CHAT_TEMPLATE

IMAGE, PAD = "<image>", "<pad>"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_IMAGE_SETTINGS = "do_resize size resample do_center_crop crop_size do_rescale rescale_factor do_normalize image_mean"


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of an original checkpoint, with ``<image>`` and a token for padding.

    ``<pad>`` is added, as Hugging Face's script does, unless there is a padding token that means nothing else.

    Raises:
        ModelError: there is none, or it needs packages that are not installed.
    """
    from transformers import AddedToken

    tokenizer = _tokenizer(folder)
    tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    others = {tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token, None}
    if tokenizer.pad_token in others:
        tokenizer.add_special_tokens({"pad_token": PAD})
    tokenizer.padding_side = "left"
    return tokenizer


def processor(config: dict[str, Any], whole: Any, tokenizer: Any, places: list[Path]) -> Any:
    """Processor of the converted checkpoint.

    Args:
        config: original configuration.
        whole: `LlavaConfig` after conversion.
        tokenizer: as `load_tokenizer` gives it.
        places: folders in which the image processor's settings may be; the first that has them counts.

    Raises:
        ModelError: prompts need tokens around an image that the tokenizer does not have, or the settings of the image
            processor cannot be read.
    """
    from transformers import LlavaProcessor

    return LlavaProcessor(
        image_processor=_image_processor(whole.vision_config, places, config.get("image_aspect_ratio") == "pad"),
        tokenizer=tokenizer,
        patch_size=whole.vision_config.patch_size,
        vision_feature_select_strategy=whole.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=_template(config, tokenizer),
    )


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    there = [name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    if not {"tokenizer.json", "tokenizer.model"} & set(there):
        raise ModelError(f"no tokenizer in {folder}: there is neither tokenizer.json nor tokenizer.model")
    # Away from config.json, whose model type transformers does not know or takes for another model's.
    with tempfile.TemporaryDirectory() as alone:
        for name in there:
            shutil.copy(folder / name, alone)
        try:
            return AutoTokenizer.from_pretrained(alone)
        except (ImportError, OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(_no_tokenizer(folder, "tokenizer.json" in there, error)) from error


def _no_tokenizer(folder: Path, fast: bool, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0][:160]
    if fast:
        return f"the tokenizer in {folder} cannot be read ({reason}): copy it again"
    return (
        f"{folder} has a SentencePiece tokenizer (tokenizer.model) only: pip install sentencepiece protobuf, or put the"
        f" tokenizer.json of the language model (lmsys/vicuna-7b-v1.5) beside it ({reason})"
    )


def _template(config: dict[str, Any], tokenizer: Any) -> str:
    if not config.get("mm_use_im_start_end"):
        return CHAT_TEMPLATE
    around = ("<im_start>", "<im_end>")
    if not set(around) <= set(tokenizer.get_vocab()):
        raise ModelError("mm_use_im_start_end is set, and the tokenizer has no <im_start> and <im_end>: copy it again")
    return CHAT_TEMPLATE.replace(IMAGE, IMAGE.join(around))


def _image_processor(vision: Any, places: list[Path], pad: bool) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    found = next((place for place in places if (place / "preprocessor_config.json").is_file()), None)
    side = vision.image_size
    sizes: dict[str, Any] = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    try:
        clip = CLIPImageProcessorPil(**sizes) if found is None else CLIPImageProcessorPil.from_pretrained(found)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise ModelError(f"preprocessor_config.json in {found} cannot be read ({reason}): copy it again") from error
    if not pad:
        return clip
    settings = clip.to_dict()
    kept: dict[str, Any] = {
        name: settings[name] for name in [*_IMAGE_SETTINGS.split(), "image_std"] if name in settings
    }
    return LlavaImageProcessorPil(**kept, do_pad=True)
