"""What the search box finds first: pages that answer before pages that tell at length.

A page's own ``search: boost:`` in its head stays. ``searching.js`` goes in front of the theme's search worker.
"""

from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority

WEIGHTS = {"how-to/": 3.0, "concepts/": 2.0, "coming-from/": 1.5, "recipes/": 0.7, "tutorials/": 0.7, "notebooks/": 0.3}
"""By the folder of a page; 1 elsewhere. The reference says its own."""

ASKED = {
    "index.md": "beginner tutorial exercises start",
    "concepts/directions.md": "difference of means cosine similarity contrastive",
    "families.md": "supported unsupported Qwen2-VL Qwen2.5-VL Qwen3-VL InternVL SmolVLM PaliGemma Gemma Pixtral",
    "datasets.md": "benchmark MM-SafetyBench FigStep JailBreakV VLGuard XSTest ScienceQA MME",
    "concepts/positions.md": "image tokens indices mask",
    "evaluation.md": "rate ASR false",
    "benchmarks.md": "overhead slow faster",
    "install.md": "offline local Windows macOS Docker",
    "how-to/data-and-judges/my-own-prompts.md": "csv jsonl",
    "how-to/experiments/compare-conditions.md": "p-value significance confidence bootstrap",
    "how-to/inputs/adversarial-image.md": "jailbreak PGD attack",
    "how-to/models/map-by-hand.md": "unsupported supported custom",
    "how-to/models/quantised.md": "4bit 8bit bitsandbytes quantized GPTQ AWQ",
    "how-to/scale/free-memory.md": "OOM batch size",
    "how-to/scale/many-gpus.md": "multi-gpu parallel",
    "how-to/steering/patch-an-activation.md": "causal tracing interchange",
    "how-to/steering/own-hook-function.md": "register_forward_hook custom",
}
"""Words that people ask with and that a page has not in its headings."""

WORKER = "assets/javascripts/workers/search.*.min.js"


def on_files(files, config):
    """Refuses words for a page that there is not."""
    if gone := [path for path in ASKED if files.get_file_from_path(path) is None]:
        raise PluginError(f"docs/searching.py has words for pages that there are not: {', '.join(gone)}")
    return files


@event_priority(100)  # before the search plugin takes the page
def on_page_context(context, page, config, nav):
    """Weighs a page by its folder, and gives it the words that it is asked with."""
    path = page.file.src_uri
    for folder, weight in WEIGHTS.items():
        if path.startswith(folder):
            page.meta.setdefault("search", {}).setdefault("boost", weight)
    if path in ASKED:
        page.meta["tags"] = ASKED[path].split()
    return context


def on_post_build(config):
    """Puts ``searching.js`` in front of the theme's worker."""
    (worker,) = Path(config.site_dir).glob(WORKER)
    ours = (Path(__file__).parent / "searching.js").read_text("utf-8")
    worker.write_text(f"{ours}\n{worker.read_text('utf-8')}", encoding="utf-8")
