"""Processors, with torchvision and without it."""

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

    if not is_torchvision_available() and _wants_video(source, **kwargs):
        return _without_video(source, **kwargs)
    try:
        return AutoProcessor.from_pretrained(source, **kwargs)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no processor at {source!r}: {_first_line(error)}") from error


def assemble(processor_class: type, image_processor: Any, tokenizer: Any, chat_template: str | None) -> Any:
    """A processor of a class that asks for a video processor, without one."""

    def _check(self: Any, name: str, argument: Any) -> Any:
        if name == "video_processor":
            return type(None)
        return super(imageonly, self).check_argument_for_proper_class(name, argument)

    # The class keeps its name, which transformers writes into saved configurations.
    imageonly: Any = type(processor_class.__name__, (processor_class,), {"check_argument_for_proper_class": _check})
    return imageonly(
        image_processor=image_processor,
        tokenizer=tokenizer,
        video_processor=None,
        chat_template=chat_template,
    )


def _without_video(source: str, **kwargs: Any) -> Any:
    from transformers import AutoImageProcessor, AutoTokenizer

    try:
        images = AutoImageProcessor.from_pretrained(source, **kwargs)
        tokenizer = AutoTokenizer.from_pretrained(source, **kwargs)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no processor at {source!r}: {_first_line(error)}") from error
    template = getattr(tokenizer, "chat_template", None) or _chat_template(source, **kwargs)
    return assemble(_processor_class(source, **kwargs), images, tokenizer, template)


def _wants_video(source: str, **kwargs: Any) -> bool:
    found = _processor_class(source, **kwargs)
    return found is not None and "video_processor" in found.get_attributes()


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
