"""Activation patching against plain hooks, cell by cell; what must not change, and what must change altogether."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.patching import activation_patching, align
from cmrm_interp.patching.grids import Grid, source_of
from tests.oracles import patching as oracle
from tests.support import TEXTS, close, inputs_of, model_of, picture, same, twin_of, unchecked

PAIRS = {
    "llava": "text",
    "qwen2_vl": "text",
    "paligemma": "text",
    "gemma3": "blank",
    "mllama": "text",
    "gpt2": "words",
}
OTHER = ["what is in the cake ?", "tell me about dogs and dogs please you are kind", "how do i make a picture ?"]


def metric(logits):
    """Any function of the next token."""
    return logits[:, 3] - logits[:, 5].tanh()


def runs(family, side="left"):
    """A clean and a corrupt run."""
    model = model_of(family)
    kind = PAIRS[family]
    if kind == "words":
        return model, inputs_of(model, side), model.prepare(OTHER, padding_side=side)
    images = [picture(0), picture(1, (16, 24)), picture(2, (24, 16))]
    clean = model.prepare(TEXTS, images, padding_side=side)
    return model, clean, clean.without_images() if kind == "text" else clean.with_images(picture(9, (32, 32)))


def by_hand(model, source, target, hook, chosen, head=None):
    """The metric of one cell by plain hooks; ``chosen(row, column of the target)`` says what is patched."""
    hf = twin_of(model.family.name)
    a, b = source.tensors, target.tensors
    pad_a, pad_b = (x["input_ids"] * x["attention_mask"] for x in (a, b))
    image = model.encoder.image_token
    if PAIRS[model.family.name] == "words":
        pairs = [[(i, i) for i in range(len(row)) if row[i]] for row in a["attention_mask"]]
    else:
        pairs = [oracle.counterparts(x, y, image) for x, y in zip(pad_a, pad_b, strict=True)]
    pairs = [[(x, y) for x, y in own if chosen(row, y)] for row, own in enumerate(pairs)]
    return metric(last(oracle.patched(hf, a, b, hook, pairs, head), b)), sum(map(len, pairs))


def last(logits, tensors):
    """Logits at each row's last token."""
    columns = torch.arange(logits.shape[1])
    return logits[torch.arange(len(logits)), (columns * tensors["attention_mask"]).argmax(1)]


@pytest.mark.parametrize(
    ("family", "side", "direction"),
    [
        ("llava", "left", "denoise"),
        ("llava", "right", "noise"),
        ("qwen2_vl", "left", "noise"),
        ("paligemma", "left", "denoise"),
        ("paligemma", "right", "noise"),
        ("gemma3", "left", "denoise"),
        ("gpt2", "left", "noise"),
        ("gpt2", "right", "denoise"),
    ],
)
def test_every_cell_is_what_plain_hooks_give(family, side, direction):
    model, clean, corrupt = runs(family, side)
    source, target = (clean, corrupt) if direction == "denoise" else (corrupt, clean)
    for unit, hook in (("resid_pre", "hook_resid_pre"), ("attn_out", "hook_attn_out"), ("mlp_out", "hook_mlp_out")):
        found = activation_patching(model, clean, corrupt, metric, direction, unit=unit, layers=[0, 2])
        assert set(found.raw.axes["span"]) >= {"user", "last"}
        masks = {"user": target.mask("user"), "last": target.mask("last")}
        for layer in (0, 2):
            for span, mask in masks.items():
                want, n = by_hand(model, source, target, f"blocks.{layer}.{hook}", lambda r, c, m=mask: bool(m[r, c]))
                assert n >= 3
                close(torch.tensor(found.raw.at(layer=layer, span=span).values()).flatten().float(), want, 3)


@pytest.mark.parametrize("family", ["llava", "gpt2", "gemma3"])
def test_heads_and_positions(family):
    model, clean, corrupt = runs(family)
    heads = activation_patching(model, clean, corrupt, metric, unit="head", layers=1)
    assert list(heads.raw.axes) == ["layer", "head"]
    for head in (0, model.n_heads - 1):
        want, _ = by_hand(model, clean, corrupt, "blocks.1.attn.hook_z", lambda r, c: True, head)
        close(torch.tensor(heads.raw.values()[0, head]).float(), want, 3)
    tokens = activation_patching(model, clean, corrupt, metric, over="position", layers=1, positions=[-3, -1])
    for place, number in enumerate((-3, -1)):
        mask = corrupt.mask(number)
        want, n = by_hand(model, clean, corrupt, "blocks.1.hook_resid_pre", lambda r, c, m=mask: bool(m[r, c]))
        assert n == 3
        close(torch.tensor(tokens.raw.values()[0, place]).float(), want, 3)


@pytest.mark.parametrize("unit", ["q", "k", "v", "z", "resid_mid", "resid_post"])
def test_the_other_units(unit):
    model, clean, corrupt = runs("llava")
    hook = f"blocks.1.{'hook_' + unit if unit.startswith('resid') else 'attn.hook_' + unit}"
    found = activation_patching(model, clean, corrupt, metric, unit=unit, layers=1, over="layer")
    want, _ = by_hand(model, clean, corrupt, hook, lambda r, c: True)
    close(torch.tensor(found.raw.values()[0]).float(), want, 3)


def test_an_unchanged_position_leaves_the_run_as_it_is_with_its_image():
    """What TransformerLens's patching gets wrong: it would give the run without the image."""
    model, clean, corrupt = runs("llava")
    # Tokens before the image know nothing of it.
    found = activation_patching(model, clean, corrupt, metric, "noise", positions=["template before"])
    with_image, without = (metric(model.logits(x)).double().numpy() for x in (clean, corrupt))
    assert abs(with_image - without).min() > 1e-2
    assert abs(found.raw.values() - with_image).max() < 1e-6
    assert abs(found.recovered.values()).max() < 1e-4


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "paligemma"])
def test_patching_everything_gives_the_other_run(family):
    model = model_of(family)
    clean, corrupt = (model.prepare(TEXTS, picture(seed)) for seed in (0, 1))
    found = activation_patching(model, clean, corrupt, metric, over="layer")
    wanted = metric(model.logits(clean))
    for layer in range(model.n_layers):
        close(torch.tensor(found.raw.values()[layer]).float(), wanted, 3)
    assert abs(found.recovered.values().mean(-1) - 1).max() < 1e-3
    assert abs(found.by_prompt() - 1).max() < 1e-2


def test_patching_a_run_with_itself_changes_nothing():
    model, clean, _ = runs("llava")
    found = activation_patching(model, clean, clean, metric, unit="head", layers=2)
    assert abs(found.raw.values() - found.raw.values(clean=True)).max() < 1e-5
    assert "the runs do not differ in metric" in repr(found)
    assert found.table()["recovered"].isna().all()
    with pytest.raises(ci.errors.InputError, match="there is nothing between them to recover"):
        _ = found.recovered
    with pytest.raises(ci.errors.InputError, match="choose a metric in which they differ"):
        found.by_prompt()
    assert found.plot() is not None


def test_recovered_is_the_share_of_the_way():
    model, clean, corrupt = runs("llava")
    found = activation_patching(model, clean, corrupt, {"a": metric, "b": lambda x: 2 * metric(x) + 1}, layers=[1])
    into, source = (metric(model.logits(x)).double().numpy() for x in (corrupt, clean))
    raw = found.raw.values("a")
    want = (raw.mean(-1) - into.mean()) / (source.mean() - into.mean())
    assert abs(found.recovered.values("a").mean(-1) - want).max() < 1e-5
    # Stretching the metric changes nothing.
    assert abs(found.recovered.values("b") - found.recovered.values("a")).max() < 1e-5
    assert abs(found.by_prompt("a") - (raw - into) / (source - into)).max() < 1e-4
    table = found.table()
    assert list(table) == [
        *("layer", "span", "metric", "value", "low", "high", "n", "into", "path", "from", "recovered")
    ]
    own = table[table["metric"] == "a"]
    assert abs(own["recovered"].to_numpy() - want[0]).max() < 1e-5
    assert abs(own["from"] - source.mean()).max() < 1e-5
    assert "layer 1 x span 3" in repr(found)
    assert "<table" in found._repr_html_()


def test_a_prompt_whose_runs_agree_is_left_out_alone():
    model, clean, corrupt = runs("llava")
    same_run = [*clean.prompts[:2], corrupt.prompts[2]]
    found = activation_patching(model, model.prepare(same_run), corrupt, metric, layers=1, positions=["last"])
    by_prompt = found.by_prompt()
    assert torch.tensor(by_prompt).isnan().flatten().tolist() == [False, False, True]


def test_a_stopped_experiment_goes_on(tmp_path):
    model, clean, corrupt = runs("llava")
    first = activation_patching(model, clean, corrupt, metric, "denoise", tmp_path / "here", layers=1)
    again = activation_patching(model, clean, corrupt, metric, "denoise", tmp_path / "here", layers=1)
    same(torch.tensor(first.raw.values()), torch.tensor(again.raw.values()))
    with pytest.raises(ci.errors.MismatchError, match="interventions"):
        activation_patching(model, clean, corrupt, metric, "denoise", tmp_path / "here", layers=1, unit="attn_out")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"unit": "neuron"}, ci.errors.InputError, "no unit 'neuron': use resid_pre, resid_mid, .*, head, z, q, k, v"),
        ({"over": "token"}, ci.errors.InputError, "use 'span', 'position' or 'layer'"),
        ({"layer": 1}, ci.errors.InputError, "no argument 'layer': use unit=, over=, layers=, positions=, unequal="),
        ({"layers": 99}, ci.errors.HookPointError, "no layer 99: this model has"),
        ({"positions": ["words"]}, ci.errors.InputError, "no span 'words': use template before, image, user"),
        ({"positions": []}, ci.errors.InputError, "no spans: leave positions= out"),
        ({"positions": ["image"]}, ci.errors.MismatchError, "'image': row 0 has 0 such tokens, and none has a"),
        ({"over": "position", "positions": [-99]}, ci.errors.MismatchError, "the shortest row has 9: -9 to -1"),
        ({"over": "layer", "positions": "image"}, ci.errors.MismatchError, "none has a counterpart in the run"),
    ],
)
def test_what_cannot_be_is_said(options, error, words):
    model, clean, corrupt = runs("llava")
    with unchecked(), pytest.raises(error, match=words):
        activation_patching(model, clean, corrupt, metric, **options)


def test_directions_and_rows_that_there_are_not():
    model, clean, corrupt = runs("llava")
    with unchecked(), pytest.raises(ci.errors.InputError, match=r"use 'denoise' \(clean into corrupt\) or 'noise'"):
        activation_patching(model, clean, corrupt, metric, "both")
    with pytest.raises(ci.errors.MismatchError, match="3 rows and 1 rows: patching needs the same prompts"):
        activation_patching(model, clean, model.prepare(TEXTS[:1]), metric)


def test_layers_that_only_see_images_are_left_out_without_one():
    model = model_of("mllama")
    image = model.prepare(TEXTS[:1], picture(0))
    without, seeing = align(image, image.without_images()), align(image, image)
    every = Grid("head").hooks(model, seeing)
    assert sorted(every) == list(range(model.n_layers))
    missing = sorted(every.keys() - Grid("head").hooks(model, without).keys())
    assert [every[layer] for layer in missing] == [f"blocks.{layer}.cross_attn.hook_z" for layer in missing] != []
    with pytest.raises(ci.errors.HookPointError, match=f"of this model in these runs: not at \\[{missing[0]}"):
        Grid("head", layers=missing).hooks(model, without)
    found = activation_patching(model, image, image.without_images(), metric, layers=missing, positions=["last"])
    want, _ = by_hand(model, image, image.without_images(), f"blocks.{missing[0]}.hook_resid_pre", is_last)
    close(torch.tensor(found.raw.values()[0, 0]).float(), want, 3)


def is_last(row, column):
    """The last column of one row."""
    return column == 8


def test_only_the_prompt_is_patched():
    model, clean, corrupt = runs("llava")
    alignment = align(clean, corrupt)
    for options in ({"positions": ["last"]}, {"over": "layer", "positions": "all"}, {"over": "position"}):
        cells = Grid(layers=[3], **options).cells(model, alignment)
        tokens = corrupt.batch(slice(0, 3)).tokens
        for cell in cells:
            assert cell.places.positions.mask(tokens).any()
            assert not cell.places.positions.mask(tokens.new_token()).any()


def test_metrics_of_answers_can_be_patched_for():
    """The first token of the answer is the patched one, the next ones are the model's own."""
    model, clean, corrupt = runs("llava")
    firsts = []

    class Opening(ci.metrics.Metric):
        name = "opening"
        needs = ci.metrics.Needs(new_tokens=2)

        def measure(self, seen):
            firsts.append(seen.answer(1))
            return torch.tensor([float(len(answer)) for answer in seen.answer(2)])

    options = {"unit": "resid_post", "layers": [-1], "positions": ["last"]}
    activation_patching(model, clean, corrupt, Opening(), **options)
    wanted = model.generate(clean, max_new_tokens=1)
    assert wanted in firsts
    assert model.generate(corrupt, max_new_tokens=1) in firsts


def test_patches_know_the_prompts_that_they_were_made_for():
    model, clean, corrupt = runs("llava")
    alignment = align(clean, corrupt)
    cells = Grid(layers=1, positions=["user"]).cells(model, alignment)
    patch = cells[0].patch(source_of(model, alignment, cells))
    assert patch.by_token
    with pytest.raises(ci.errors.MismatchError, match="row 0 has other tokens"):
        model.logits(model.prepare(TEXTS[::-1]), [patch])
