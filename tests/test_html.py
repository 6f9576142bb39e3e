"""What notebooks show: HTML that is small, escaped and without colours of its own; TAB after a bracket."""

import base64
import io
import re
from html.parser import HTMLParser

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

import cmrm_interp as ci
from cmrm_interp import displays, markup
from cmrm_interp.hooks import HookPoints
from cmrm_interp.reports.report import Report
from tests.evaluation.made import judged
from tests.support import STREAM, inputs_of, model_of, picture, vectors

NASTY = "<script>alert('x')</script> & <b>"


class Tags(HTMLParser):
    """Tags, texts and attributes of a page; fails where tags are not closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.texts, self.attributes = [], [], [], []
        self.feed(page)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def page(value):
    """A value's HTML, well-formed, small, and right in light and dark."""
    shown = value._repr_html_()
    assert len(shown) < 60_000
    assert not re.search(r"(?<![\w-])(color|background(-color)?)\s*:", shown)
    tags = Tags(shown)
    assert not {"script", "style", "link"} & set(tags.seen)
    assert not [value for name, value in tags.attributes if name.startswith("on")]
    return tags


@pytest.fixture(scope="module")
def model():
    return model_of("llava")


@pytest.fixture(scope="module")
def acts(model):
    return model.capture(inputs_of(model, kind="image"), [STREAM, "vision.hook_out"])


def test_a_model_says_its_sizes_and_folds_its_hook_points(model):
    shown = page(model)
    size = sum(p.numel() for p in model.hf.parameters())
    assert f"{size:,} parameters, {model.n_heads} heads, text and images, float32 on cpu" in shown.text
    assert repr(model) in shown.text
    assert "details" in shown.seen
    assert f"{len(model.hook_points)} hook points" in shown.text
    assert f"blocks.*.hook_resid_post 0-{model.n_layers - 1}" in shown.text


def test_inputs_show_the_first_prompts_and_encode_nothing(model, monkeypatch, tmp_path):
    monkeypatch.setattr(type(model.encoder), "encode", lambda *_: pytest.fail("encoded"))
    images = [picture(0, (64, 32)), None, tmp_path / "missing.png", picture(1), *[tmp_path / "never opened.png"] * 6]
    inputs = model.prepare(["a cat", NASTY, "w " * 500, *["more"] * 7], images)
    shown = page(inputs)
    assert "Inputs(10 prompts, 9 with an image)" in shown.text
    assert NASTY in shown.text
    assert "text only" in shown.text
    assert "missing.png does not exist" in shown.text
    assert "never opened" not in shown.text
    assert "... 6 more prompts: .prompts" in shown.text
    assert max(map(len, shown.texts)) <= markup.WORDS
    assert shown.seen.count("img") == 2


def test_a_thumbnail_is_the_picture(model):
    given = picture(0, (24, 16))
    source = dict(page(model.prepare("one", given)).attributes)["src"]
    kind, _, data = source.partition(",")
    assert kind == "data:image/png;base64"
    decoded = Image.open(io.BytesIO(base64.b64decode(data)))
    assert decoded.size == given.size
    assert decoded.tobytes() == given.tobytes()


def test_a_large_picture_becomes_small():
    large = Image.new("RGBA", (3000, 1500), "red")
    assert len(markup.thumbnail(large)) < 2_000
    assert "3000 x 1500" in markup.thumbnail(large)
    assert large.size == (3000, 1500)


def test_many_images_of_a_prompt_are_counted(model):
    shown = page(model.prepare(ci.Prompt("what changes ?", [picture(n) for n in range(7)])))
    assert shown.seen.count("img") == displays.FEW
    assert "... 3 more" in shown.text


def test_earlier_turns_are_said(model):
    prompt = ci.Prompt("and now ?", history=[("user", "a cat ?"), ("assistant", "yes")])
    assert "[after 2 earlier turns] and now ?" in page(model.prepare(prompt)).text


def test_an_encoding_has_a_plain_form_alone(model):
    encoded = model.from_encoding({"input_ids": torch.ones(2, 3, dtype=torch.long)})
    assert repr(encoded) == "Inputs(an encoding of shape (2, 3))"


def test_activations_show_shapes_by_kind(model, acts):
    shown = page(acts)
    assert f"blocks.*.hook_resid_post 0-{model.n_layers - 1} (3, {model.d_model})" in shown.text
    assert "vision.hook_out" in shown.text
    assert "positions='last'" in shown.text
    assert shown.seen.count("tr") == 3


def test_directions_show_norms_by_hook_point(model):
    shift = vectors(model)
    shown = page(shift)
    for name, vector in shift.items():
        assert f"{name} {name.split('.')[1]} {float(vector.norm()):.3g}" in shown.text
    several = ci.Directions({"blocks.0.hook_resid_post": torch.eye(4)[:3] * 2}, rows="batch", method=NASTY)
    assert "blocks.0.hook_resid_post 0 2 (mean of 3)" in page(several).text
    assert NASTY in page(several).text


def test_a_sweep_shows_its_first_rows(model):
    def alpha_at(layer, alpha):
        return [ci.Subtract(vectors(model), alpha, layers=layer)]

    over = {"layer": range(model.n_layers), "alpha": [0.5, 1.0, 1.5, 2.0, 3.0]}
    result = ci.sweep(model, inputs_of(model, kind="text"), over, alpha_at, lambda logits: logits[:, 0])
    shown = page(result)
    assert repr(result) in shown.text
    assert f"... {len(result.table()) - 8} more rows: .table()" in shown.text
    assert shown.seen.count("tr") == 9


def test_a_report_shows_its_table():
    report = Report(judged("crcc", defence=NASTY) + judged("rrrr", defence="b"))
    shown = page(report)
    assert repr(report) in shown.text
    assert NASTY in shown.text
    assert "75.0 [" in shown.text


def test_numbers_in_short():
    assert displays.spans([3, 1, 2, 7]) == "1-3, 7"
    assert displays.spans([]) == ""


@pytest.fixture(scope="module")
def shell():
    return InteractiveShell.instance()


def completed(shell, line):
    """What TAB offers at the end of a line."""
    return shell.complete(line)[1]


def test_tab_completes_hook_points(shell, model, acts):
    shell.user_ns |= {"acts": acts, "shift": vectors(model), "model": model, "points": model.hook_points}
    for line in ('acts["blocks.0.', 'shift["blocks.0.'):
        assert any(one.endswith("blocks.0.hook_resid_post") for one in completed(shell, line)), line
    for line in ('points["blocks.1.attn.', 'model.hook_points["blocks.1.attn.'):
        assert any(one.endswith("blocks.1.attn.hook_z") for one in completed(shell, line)), line
    assert not any("hook_z" in one for one in completed(shell, 'acts["blocks.0.'))


def test_hook_points_are_a_list_that_takes_patterns(model):
    points = model.hook_points
    assert points == list(points)
    assert isinstance(points, list)
    assert points[0] == next(iter(points))
    assert points[:2] == list(points)[:2]
    assert points["blocks.*.hook_resid_post"] == [f"blocks.{n}.hook_resid_post" for n in range(model.n_layers)]
    with pytest.raises(ci.errors.HookPointError, match="this model has 2 layers"):
        HookPoints(["blocks.0.hook_z", "blocks.1.hook_z"])["blocks.5.hook_z"]


def test_hook_points_cannot_be_set_or_changed_from_outside(model):
    before = list(model.hook_points)
    model.hook_points.clear()
    assert model.hook_points == before
    with pytest.raises(AttributeError, match="'hook_points' of a Model cannot be set"):
        model.hook_points = []
