"""Several positions a row: each, as tokens, their mean; and shapes that are no vectors."""

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError
from tests.probes.probe_data import FAST, A, acts
from tests.support import inputs_of, model_of, picture


def several(n=60, width=4, left=True):
    """Rows of 2 to 4 tokens, padded with junk; the label is in the last token but one."""
    rng = np.random.default_rng(0)
    y, lengths = np.arange(n) % 2 == 0, 2 + np.arange(n) % 3
    x, mask = rng.normal(size=(n, width, 6)), torch.zeros(n, width, dtype=torch.bool)
    for row, length in enumerate(lengths):
        mask[row, width - length :] = True
    x[:, -2] += 3 * (y - 0.5)[:, None]
    x[~mask.numpy()] = 1e9
    return (x, mask, y) if left else (x[:, ::-1].copy(), mask.flip(1), y)


def test_a_choice_is_asked_for():
    x, mask, y = several()
    with pytest.raises(InputError, match=f"4 positions a row at '{A}': pass positions='each' .* 'tokens' .* 'mean'"):
        ci.probe(acts(x, mask=mask), y)


@pytest.mark.parametrize(("left", "wanted"), [(True, [-2, -1]), (False, [0, 1])])
def test_each_position_that_all_rows_have(left, wanted):
    x, mask, y = several(left=left)
    result = ci.probe(acts(x, mask=mask), y, positions="each", **FAST)
    assert [cell.position for cell in result.cells] == wanted
    scores = result.table().query("metric == 'auc'").set_index("position")["value"]
    assert scores[-2 if left else 1] > 0.99
    assert scores[-1 if left else 0] < 0.75
    assert result.cell(A, wanted[0]).position == wanted[0]
    alone = ci.probe(acts(x[:, wanted[0]]), y, **FAST)
    np.testing.assert_array_equal(result.cells[0].held.score, alone.cells[0].held.score)
    legend = result.plot("auc").legends[0].get_texts()
    assert [t.get_text() for t in legend] == [f"auc, position {place}" for place in wanted]


def test_tokens_of_a_row_stay_together():
    x, mask, y = several()
    held = ci.probe(acts(x, mask=mask), y, positions="tokens", **FAST).cells[0].held
    assert len(held.y) == int(mask.sum())
    assert held.n_groups == 60
    for group in range(60):
        assert len(np.unique(held.fold[held.groups == group])) == 1
        assert (held.y[held.groups == group] == y[group]).all()


def test_the_mean_leaves_padding_out():
    x, mask, y = several()
    by_hand = np.stack(
        [row[m].mean(0) for row, m in zip(x.astype(np.float32).astype(float), mask.numpy(), strict=True)]
    )
    one = ci.probe(acts(x, mask=mask), y, positions="mean", **FAST).cells[0].held.score
    np.testing.assert_allclose(one, ci.probe(acts(by_hand), y, **FAST).cells[0].held.score, atol=1e-5)


def test_rows_without_tokens():
    x, mask, y = several()
    mask[5] = False
    with pytest.raises(InputError, match=f"row 5 has no token at '{A}', so there is no mean"):
        ci.probe(acts(x, mask=mask), y, positions="mean")
    with pytest.raises(InputError, match=f"no position at '{A}' is there in every row"):
        ci.probe(acts(x, mask=mask), y, positions="each")


def test_heads_keep_their_shape():
    model, hook = model_of("llava"), "blocks.0.attn.hook_z"
    captured = model.capture(inputs_of(model, kind="text"), hook)
    y = [True, False, True, False, True, False]
    twice = captured.map(lambda t, _: torch.cat([t, t + torch.randn(t.shape, generator=torch.manual_seed(0))]))
    fitted = ci.Probe.fit(twice, y, strengths=(0.1,))
    assert fitted.weights[hook].shape == (model.n_heads, model.d_model // model.n_heads)
    flat = ci.Activations({A: twice[hook].flatten(1)})
    torch.testing.assert_close(fitted.score(twice), ci.Probe.fit(flat, y, strengths=(0.1,)).score(flat))
    model.logits(inputs_of(model, kind="text"), ci.Subtract(fitted.direction()))


def test_patches_of_images():
    model, hook = model_of("llava"), "vision.blocks.0.hook_resid_post"
    pictures = [picture(seed) for seed in range(8)]
    captured = model.capture(model.prepare(["what is it ?"] * 8, pictures), hook)
    y = np.arange(8) % 2 == 0
    held = ci.probe(captured, y, positions="tokens", folds=2, **FAST).cells[0].held
    assert len(held.y) == captured[hook].shape[0] * captured[hook].shape[1]
    assert held.n_groups == 8
