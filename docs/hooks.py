"""Pages made during the build: the lessons and notebooks, and an API page that lists every public module."""

from pathlib import Path

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent


@event_priority(100)  # before mkdocs-jupyter, which looks for notebooks among the files
def on_files(files, config):
    """Adds lessons and notebooks, which live outside of docs/."""
    for lesson in sorted([*ROOT.glob("tutorials/*.ipynb"), *ROOT.glob("notebooks/*.ipynb")]):
        path = str(lesson.relative_to(ROOT))
        files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown, page, config, files):
    """Appends one reference a public module to the API page."""
    if page.file.src_uri != "api.md":
        return markdown
    return markdown + "".join(f"\n::: {name}\n" for name in public_modules())


def public_modules() -> list[str]:
    """Dotted names of the package's modules, without private ones and empty packages."""
    paths = [path for path in sorted(ROOT.glob("cmrm_interp/**/*.py")) if "/_" not in path.as_posix()]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
