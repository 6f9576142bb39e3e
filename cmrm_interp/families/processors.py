"""Processors, with torchvision and without it."""

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from cmrm_interp.errors import ModelError


def load_processor(source: str, **kwargs: Any) -> Any:
    """Processor of a vision-language checkpoint.

    Several families ask for a video processor, which needs torchvision. Without torchvision the processor
    is put together from its other parts, and images work as they do with it.

    Args:
        source: hub id or folder.
        **kwargs: ``revision``, ``trust_remote_code``, ... as `transformers.AutoProcessor` takes them.

    Raises:
        ModelError: there is no processor at the source.
    """
    from transformers import AutoProcessor
    from transformers.utils.import_utils import is_torchvision_available

    try:
        if _names_pixtral(source, **kwargs):
            return pixtral_processor().from_pretrained(source, **kwargs)
        if not is_torchvision_available() and _wants_video(source, **kwargs):
            return _without_video(source, **kwargs)
        return AutoProcessor.from_pretrained(source, **kwargs)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no processor at {source!r}: {_first_line(error)}") from error


def assemble(
    processor_class: type, image_processor: Any, tokenizer: Any, chat_template: str | None, **settings: Any
) -> Any:
    """A processor of a class that asks for a video processor, without one.

    Args:
        processor_class: class of the processor.
        image_processor: its image processor.
        tokenizer: its tokenizer.
        chat_template: in Jinja.
        **settings: what else the class takes, such as ``image_seq_len``.
    """

    def _check(self: Any, name: str, argument: Any) -> Any:
        if name == "video_processor":
            return type(None)
        return super(imageonly, self).check_argument_for_proper_class(name, argument)

    def _call(self: Any, *args: Any, videos: Any = None, **kwargs: Any) -> Any:
        if videos is not None:
            raise ModelError("videos need torchvision, which is not installed: this processor takes images and text")
        return super(imageonly, self).__call__(*args, **kwargs)

    def _to_dict(self: Any) -> dict[str, Any]:
        return {name: value for name, value in super(imageonly, self).to_dict().items() if name != "video_processor"}

    # The class keeps its name, which transformers writes into saved configurations.
    changed = {"check_argument_for_proper_class": _check, "__call__": _call, "to_dict": _to_dict}
    imageonly: Any = type(processor_class.__name__, (processor_class,), changed)
    parts = {"image_processor": image_processor, "tokenizer": tokenizer, "video_processor": None}
    names = vars(sys.modules[processor_class.__module__])
    if names.get("num2words", _missing) is None:
        # SmolVLM's asks at once for what writes out the number of a video's frames.
        names["num2words"] = _missing
    made = imageonly(**parts, chat_template=chat_template, **settings)
    # From here on there is none: what is not there is not saved.
    kept = [name for name in processor_class.get_attributes() if name != "video_processor"]  # type: ignore[attr-defined]
    imageonly.get_attributes = classmethod(lambda cls: kept)
    return made


def pixtral_processor() -> Any:
    """PixtralProcessor, also without torchvision, which its module imports for a function that PIL's has as well."""
    from transformers.utils.import_utils import is_torchvision_available

    package = "transformers.models.pixtral"
    if is_torchvision_available():
        return import_module(f"{package}.processing_pixtral").PixtralProcessor
    wanted = f"{package}.image_processing_pixtral"
    sys.modules[wanted] = import_module(f"{package}.image_processing_pil_pixtral")
    try:
        return import_module(f"{package}.processing_pixtral").PixtralProcessor
    finally:
        del sys.modules[wanted]


def _missing(*_: Any) -> str:
    raise ModelError("videos need the package num2words: pip install num2words")


def _without_video(source: str, **kwargs: Any) -> Any:
    from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

    found = _processor_class(source, **kwargs)
    others: dict[str, Any] = {}
    try:
        images = AutoImageProcessor.from_pretrained(source, **kwargs)
        tokenizer = AutoTokenizer.from_pretrained(source, **kwargs)
        if "feature_extractor" in found.get_attributes():  # for sound
            others["feature_extractor"] = AutoFeatureExtractor.from_pretrained(source, **kwargs)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no processor at {source!r}: {_first_line(error)}") from error
    template = getattr(tokenizer, "chat_template", None) or _chat_template(source, **kwargs)
    settings, _ = found.get_processor_dict(source, **kwargs)
    taken = inspect.signature(found.__init__).parameters.keys() - {*found.get_attributes(), "chat_template"}
    others |= {name: settings[name] for name in taken & settings.keys()}
    return assemble(found, images, tokenizer, template, **others)


def _wants_video(source: str, **kwargs: Any) -> bool:
    found = _processor_class(source, **kwargs)
    return found is not None and "video_processor" in found.get_attributes()


def _names_pixtral(source: str, **kwargs: Any) -> bool:
    from transformers import ProcessorMixin

    settings, _ = ProcessorMixin.get_processor_dict(source, **kwargs)
    return settings.get("processor_class") == "PixtralProcessor"


def _processor_class(source: str, **kwargs: Any) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    return PROCESSOR_MAPPING.get(type(AutoConfig.from_pretrained(source, **kwargs)), None)


def _chat_template(source: str, **kwargs: Any) -> str | None:
    import json

    from transformers.utils.hub import cached_file

    known = {name: kwargs[name] for name in ("revision", "token", "cache_dir") if name in kwargs}
    for name in ("chat_template.jinja", "chat_template.json"):
        path = cached_file(source, name, _raise_exceptions_for_missing_entries=False, **known)
        if path is not None:
            text = Path(path).read_text(encoding="utf-8")
            return text if name.endswith("jinja") else json.loads(text)["chat_template"]
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
