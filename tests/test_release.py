"""The release as its users meet it: built from the sdist, installed into a clean environment, used from elsewhere.

Nothing is downloaded: the build runs with the hatchling that is here, the package is installed without its
dependencies, and those are seen from this environment, but for this package's own editable install.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path
from types import SimpleNamespace

import pytest

import cmrm_interp as ci
from docs.buttons import on_page_content

pytest.importorskip("hatchling", reason="needs hatchling to build without a download")

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("release")]


def called(*command, cwd, **env):
    """What a command writes; fails with all of it where the command fails."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(map(str, command), cwd=cwd, env={**own, **env}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(root, kind, out):
    """The file that hatchling builds of a source tree."""
    called(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out, cwd=root)
    (found,) = out.iterdir()
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return built(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the sdist, as pip would where there is no wheel."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return built(root, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A clean environment with the wheel in it: gives its folder of programs."""
    home = tmp_path_factory.mktemp("environment")
    called(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    programs = home / "bin"
    python = programs / "python"
    pip = ("-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--disable-pip-version-check")
    called(sys.executable, *pip, wheel, cwd=home)
    # Named in a .pth file, a folder's own .pth files (those of editable installs) are not read.
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


@pytest.fixture(scope="module")
def names(wheel):
    return zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def metadata(wheel, names):
    (path,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(zipfile.ZipFile(wheel).read(path).decode())


def test_the_wheel_holds_the_package_its_data_and_nothing_else(names):
    assert {name.split("/")[0] for name in names} == {"cmrm_interp", f"cmrm_interp-{ci.__version__}.dist-info"}
    assert {"cmrm_interp/py.typed", "cmrm_interp/_data/organism/model.safetensors"} <= set(names)
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("cmrm_interp/**/*.py")}
    assert modules <= set(names)
    lessons = {f"cmrm_interp/_data/tutorials/{path.name}" for path in ROOT.glob("tutorials/*.ipynb")}
    assert lessons <= set(names)
    assert not [name for name in names if re.search(r"__pycache__|\.ipynb_checkpoints|/tests/|/runs/", name)]


def test_the_sdist_holds_what_a_packager_needs(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "tests/conftest.py", "docs/index.md", "Makefile"}
    assert wanted <= names
    assert not [name for name in names if name.startswith(("runs/", ".venv/", "site/"))]


def test_the_version_is_said_in_one_place(metadata):
    assert metadata["Version"] == ci.__version__
    assert "version" not in re.search(r"\[project\](.*?)\n\[", (ROOT / "pyproject.toml").read_text(), re.S)[1].replace(
        'dynamic = ["version"]', ""
    )
    assert f"\nversion: {ci.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] == "Unreleased" or headings[0].startswith(ci.__version__)


def test_the_metadata_is_what_an_index_shows(metadata):
    assert {"notebooks", "docs", "dev", "eval", "finetune", "ray", "interop"} <= set(metadata.get_all("Provides-Extra"))
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# cmrm_interp")
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert {"torch", "transformers", "nnsight"} <= {re.split(r"[<>=]", line)[0] for line in needed}
    notebooks = " ".join(line for line in metadata.get_all("Requires-Dist") if "extra == 'notebooks'" in line)
    assert all(name in notebooks for name in ("ipywidgets", "jupyterlab", "ipykernel"))


def test_installed_it_is_imported_from_there_and_answers(installed, tmp_path):
    code = """
        import json
        from importlib.metadata import version
        from pathlib import Path

        import cmrm_interp as ci
        from cmrm_interp.families.load import organism_folder

        model = ci.load("organism")
        answer = model.generate(model.prepare("how do i make a cake ?", ci.images.blank((32, 32))), max_new_tokens=8)
        package = Path(ci.__file__).parent
        print(json.dumps([str(package), str(organism_folder()), version("cmrm-interp"), ci.__version__, answer]))
    """
    program = tmp_path / "program.py"
    program.write_text("\n".join(line.removeprefix(" " * 8) for line in code.splitlines()))
    said = called(installed / "python", "-I", program, cwd=tmp_path, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    package, organism, version, own, (answer,) = json.loads(said.splitlines()[-1])
    assert Path(package).is_relative_to(installed.parent)
    assert Path(organism) == Path(package) / "_data" / "organism"
    assert version == own == ci.__version__
    model = ci.load("organism")
    inputs = model.prepare("how do i make a cake ?", ci.images.blank((32, 32)))
    assert [answer] == model.generate(inputs, max_new_tokens=8)


def test_installed_its_command_runs_from_anywhere(installed, tmp_path):
    cmrm = installed / "cmrm"
    assert called(cmrm, "--version", cwd=tmp_path).strip() == ci.__version__
    assert "notebooks" in called(cmrm, "--help", cwd=tmp_path)
    listed = called(cmrm, "notebooks", "list", cwd=tmp_path)
    assert all(path.name in listed for path in ROOT.glob("tutorials/*.ipynb"))
    called(cmrm, "notebooks", "copy", "mine", cwd=tmp_path)
    copied = {path.name for path in (tmp_path / "mine" / "tutorials").iterdir()}
    assert copied == {path.name for path in ROOT.glob("tutorials/*.ipynb")}
    assert (tmp_path / "mine" / "data" / "gated_shift.json").exists()


def test_binder_installs_what_is_tested():
    lines = (ROOT / "binder" / "requirements.txt").read_text().splitlines()
    assert "-c ../constraints.txt" in lines
    (package,) = (line for line in lines if line.startswith("-e "))
    extras = re.fullmatch(r"-e \.\[(.*)\]", package)[1].split(",")
    declared = re.search(r"optional-dependencies\](.*?)\n\[", (ROOT / "pyproject.toml").read_text(), re.S)[1]
    assert all(f"\n{extra} = [" in declared for extra in extras)
    assert (ROOT / "binder" / "runtime.txt").read_text().strip() == "python-3.11"


def shown(repository, folder, path="tutorials/01_a b.ipynb"):
    """The page of a notebook, as the site's hook leaves it."""
    page = SimpleNamespace(file=SimpleNamespace(src_uri=path))
    extra = {} if repository is None else {"repository": repository}
    config = SimpleNamespace(extra=extra, config_file_path=str(folder / "mkdocs.yml"))
    return on_page_content("<h1>a</h1>", page, config, None)


def test_lessons_open_elsewhere_once_the_repository_is_said(tmp_path):
    page = shown("owner/name", tmp_path)
    assert 'href="https://colab.research.google.com/github/owner/name/blob/main/tutorials/01_a%20b.ipynb"' in page
    assert 'href="https://mybinder.org/v2/gh/owner/name/main?labpath=tutorials%2F01_a%20b.ipynb"' in page
    assert page.endswith("<h1>a</h1>")
    for unsaid in (None, ""):
        assert shown(unsaid, tmp_path) == "<h1>a</h1>"
    assert shown("owner/name", tmp_path, "index.md") == "<h1>a</h1>"


@pytest.mark.parametrize("url", ["https://github.com/owner/a.name.git", "git@github.com:owner/a.name", "../elsewhere"])
def test_the_clone_says_where_the_repository_lies(url, tmp_path):
    for words in (["init", "-q"], ["remote", "add", "origin", url]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    page = shown(None, tmp_path)
    assert ("/github/owner/a.name/blob/main/" in page) == ("github" in url)
    assert page.endswith("<h1>a</h1>")


def test_a_lesson_says_first_how_colab_gets_the_package():
    for path in sorted(ROOT.glob("tutorials/*.ipynb")):
        first = next(c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code")
        lines = "".join(first["source"]).splitlines()
        if any("pip install" in line for line in lines):
            assert all(line.startswith("#") for line in lines), f"{path.name}: nothing is installed when it is run"
            assert '"cmrm-interp[notebooks]"' in lines[-1]
