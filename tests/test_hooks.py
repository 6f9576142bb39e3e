"""Names and patterns of hook points, and the words of what is wrong with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmrm_interp.errors import HookPointError
from cmrm_interp.hooks import check_layers, expand, layer_of, pos_axis, stack_of, stack_sizes
from tests.support import unchecked

N = 12
NAMES = [
    "hook_embed",
    *(f"vision.blocks.{i}.hook_resid_post" for i in range(3)),
    *(f"blocks.{i}.{p}" for i in range(N) for p in ("hook_resid_pre", "attn.hook_q", "hook_resid_post")),
    "ln_final.hook_normalized",
]


def post(*layers):
    return [f"blocks.{i}.hook_resid_post" for i in layers]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("hook_embed", ["hook_embed"]),
        ("blocks.*.hook_resid_post", post(*range(N))),
        ("blocks.{3,5}.hook_resid_post", post(3, 5)),
        ("blocks.{5, 3}.hook_resid_post", post(3, 5)),
        ("blocks.8-10.hook_resid_post", post(8, 9, 10)),
        ("blocks.{0,9-10,-1}.hook_resid_post", post(0, 9, 10, 11)),
        ("blocks.-1.hook_resid_post", post(11)),
        ("blocks.-12.hook_resid_post", post(0)),
        ("blocks.1.{hook_resid_pre,hook_resid_post}", ["blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"]),
        ("blocks.1.attn.*", ["blocks.1.attn.hook_q"]),
        ("blocks.1.*", ["blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"]),
        ("vision.blocks.-1.hook_resid_post", ["vision.blocks.2.hook_resid_post"]),
        ("vision.blocks.*.*", [f"vision.blocks.{i}.hook_resid_post" for i in range(3)]),
    ],
)
def test_patterns(pattern, wanted):
    assert expand(pattern, NAMES) == wanted


def test_several_patterns_come_in_forward_order_and_once():
    assert expand([*post(5, 2), "blocks.{2,3}.hook_resid_post"], NAMES) == post(2, 3, 5)


@given(st.integers(0, N - 1))
def test_a_negative_layer_is_its_positive_twin(layer):
    assert expand(f"blocks.{layer - N}.hook_resid_post", NAMES) == expand(f"blocks.{layer}.hook_resid_post", NAMES)
    assert check_layers([layer - N], N) == check_layers([layer], N) == (layer,)


@given(st.sets(st.sampled_from(NAMES), min_size=1))
def test_names_mean_themselves(chosen):
    assert set(expand(chosen, NAMES)) == chosen


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("blocks.12.hook_resid_post", r"no hook point 'blocks.12.hook_resid_post': this model has 12 layers \(0-11\)"),
        ("blocks.-13.hook_resid_post", r"this model has 12 layers \(0-11\)"),
        ("blocks.8-12.hook_resid_post", r"this model has 12 layers \(0-11\)"),
        ("vision.blocks.3.hook_resid_post", r"this model has 3 vision layers \(0-2\)"),
        ("blocks.3.hook_resid_pst", r"the nearest are blocks\.\*\.hook_resid_post"),
        ("blocks.*.hook_q", r"no hook point .*: the nearest are .*blocks\.\*\.attn\.hook_q"),
        ("zzz", r"no hook point 'zzz': print model.hook_points for the 41 that exist"),
        ("", "no hook point ''"),
        ([], "no hook points were asked for: give at least one name or pattern"),
    ],
)
def test_unknown_points_are_answered_with_what_exists(pattern, words):
    with pytest.raises(HookPointError, match=words) as caught:
        expand(pattern, NAMES)
    assert "\n" not in str(caught.value)


def test_one_unknown_pattern_among_good_ones_is_an_error():
    with pytest.raises(HookPointError, match="hook_nothing"):
        expand(["hook_embed", "hook_nothing"], NAMES)


@pytest.mark.parametrize("layers", [[12], [-13], [True], [1.0], ["1"]])
def test_unknown_layers(layers):
    with (
        unchecked(),
        pytest.raises(HookPointError, match=rf"no layer {layers[0]!r}: this model has 12 layers \(0-11\)"),
    ):
        check_layers(layers, N)


def test_layers():
    assert check_layers(None, N) is None
    assert check_layers(iter([3, 1, -9]), N) == (1, 3)
    with pytest.raises(HookPointError, match="layers is empty: leave it out for every layer"):
        check_layers([], N)


def test_parts_of_names():
    assert [layer_of(n) for n in ("blocks.10.attn.hook_q", "vision.blocks.2.hook_resid_post", "hook_embed")] == [
        10,
        2,
        None,
    ]
    assert [stack_of(n) for n in ("blocks.1.hook_q", "vision.blocks.2.x", "hook_embed")] == [
        "blocks",
        "vision.blocks",
        None,
    ]
    assert stack_sizes(NAMES) == {"vision.blocks": 3, "blocks": N}
    assert [pos_axis(n) for n in ("blocks.0.attn.hook_pattern", "blocks.0.attn.hook_q")] == [2, 1]
