"""A stand-in for an NDIF server: nnsight and transformers, and neither cmrm_interp nor what only it needs.

Run as a script with the folder of a model and its task. Each line of standard input names a file with a request;
the answer is written beside it, and a line says how it went.
"""

import importlib.machinery
import sys
import traceback
from pathlib import Path

LACKING = {"cmrm_interp", "jaxtyping", "beartype", "pandas", "sklearn", "statsmodels", "matplotlib", "typer", "gguf"}


class Installed(importlib.machinery.PathFinder):
    """What can be imported on a server."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in LACKING else super().find_spec(name, path, target)


def answer(model, request):
    """Values that a request saved, as ndif's ``execute_traced_block`` collects them."""
    from nnsight.schema.request import RequestModel
    from nnsight.tracing.globals import BLOCKS, SOURCES
    from nnsight.tracing.tracer import _saves, dec, inc

    BLOCKS.clear()
    SOURCES.clear()
    tracer = RequestModel.deserialize(request, model._remoteable_persistent_objects())
    inc()
    try:
        tracer.execute(tracer.info.code)
        return {name: value for name, value in tracer.info.frame.f_locals.items() if id(value) in _saves()}
    finally:
        dec()


def main(folder, task):
    import torch
    from nnsight import TransformersModel
    from transformers import AutoProcessor, AutoTokenizer

    torch.set_num_threads(1)
    if task == "text-generation":
        parts = {"tokenizer": AutoTokenizer.from_pretrained(folder)}
    else:
        processor = AutoProcessor.from_pretrained(folder)
        parts = {"processor": processor, "tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
    model = TransformersModel(folder, task=task, attn_implementation="eager", dispatch=True, **parts)
    print("ready", flush=True)
    for line in sys.stdin:
        path = Path(line.strip())
        try:
            torch.save(answer(model, path.read_bytes()), path.with_suffix(".out"))
            print("done", flush=True)
        except Exception as error:  # noqa: BLE001 - the client is told
            traceback.print_exc()
            print(f"failed: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    finders = [finder for finder in sys.meta_path if finder is not importlib.machinery.PathFinder]
    sys.meta_path[:] = [*finders, Installed]
    assert not LACKING & {name.split(".")[0] for name in sys.modules}
    main(*sys.argv[1:])
