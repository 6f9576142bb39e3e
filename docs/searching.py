"""What the search box finds first: pages that answer before pages that tell at length.

A page's own ``search: boost:`` in its head stays. ``searching.js`` goes in front of the theme's search worker, and
``tags:`` in a page's head are words that people ask with and that the page does not use.
"""

from pathlib import Path

from mkdocs.plugins import event_priority

WEIGHTS = {"how-to/": 3.0, "concepts/": 2.0, "coming-from/": 1.5, "recipes/": 0.7, "tutorials/": 0.7, "notebooks/": 0.3}
"""By the folder of a page; 1 elsewhere. The reference says its own."""

WORKER = "assets/javascripts/workers/search.*.min.js"


@event_priority(100)  # before the search plugin takes the page
def on_page_context(context, page, config, nav):
    """Weighs a page by its folder."""
    path = page.file.src_uri
    for folder, weight in WEIGHTS.items():
        if path.startswith(folder):
            page.meta.setdefault("search", {}).setdefault("boost", weight)
    return context


def on_post_build(config):
    """Puts ``searching.js`` in front of the theme's worker."""
    (worker,) = Path(config.site_dir).glob(WORKER)
    ours = (Path(__file__).parent / "searching.js").read_text("utf-8")
    worker.write_text(f"{ours}\n{worker.read_text('utf-8')}", encoding="utf-8")
