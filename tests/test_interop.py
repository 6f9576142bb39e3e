"""Files and objects of other libraries, made here the way those libraries make them."""

import json
import pickle
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cmrm_interp as ci
from cmrm_interp import interop
from cmrm_interp.errors import HookPointError, InputError, StoreError
from tests.support import close, inputs_of, model_of, same, twin_of, unchecked, vectors

STREAM = "blocks.{}.hook_resid_post"


def some(layers=(1, 2, 3), width=6, seed=0, **how):
    g = torch.Generator().manual_seed(seed)
    return ci.Directions({STREAM.format(i): torch.randn(width, generator=g) for i in layers}, **how)


def repeng(path, directions, model_type="llama", arch="controlvector", count=None):
    """A control vector, call by call as repeng 0.4.0 writes it."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_string(f"{arch}.model_hint", model_type)
    writer.add_uint32(f"{arch}.layer_count", len(directions) if count is None else count)
    for layer, vector in directions.items():
        writer.add_tensor(f"direction.{layer}", vector)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def repeng_reads(path):
    """What repeng 0.4.0 takes from a control vector: architecture, hint, vectors by layer."""
    reader = gguf.GGUFReader(path)
    arch = str(bytes(reader.get_field("general.architecture").parts[-1]), encoding="utf-8")
    hint = str(bytes(reader.get_field("controlvector.model_hint").parts[-1]), encoding="utf-8")
    found = {int(t.name.split(".")[1]): t.data for t in reader.tensors if t.name.startswith("direction.")}
    return arch, hint, found


def hooked(inputs, vectors):
    """Logits of the bare twin, with vectors added to what modules put out; ``vectors``: (module, vector) pairs."""

    def adder(vector):
        vector = torch.as_tensor(vector, dtype=torch.float32).reshape(1, 1, -1)
        return lambda _, __, out: (out[0] + vector, *out[1:]) if isinstance(out, tuple) else out + vector

    handles = [module.register_forward_hook(adder(vector)) for module, vector in vectors]
    try:
        with torch.no_grad():
            return twin_of("llama")(**inputs.tensors).logits[inputs.mask("all")]
    finally:
        for handle in handles:
            handle.remove()


def added(inputs, directions):
    """Logits of our model with the directions added everywhere."""
    return model_of("llama").logits(inputs, ci.Add(directions, positions="all"), positions="all")[inputs.mask("all")]


# ---- GGUF


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_repengs_control_vectors_are_read(tmp_path, dtype):
    rng = np.random.default_rng(0)
    made = {layer: rng.standard_normal(8).astype(dtype) for layer in (11, 2, 30)}
    v = interop.read_gguf(repeng(tmp_path / "v.gguf", made, "mistral"))
    assert list(v) == [STREAM.format(i) for i in (2, 11, 30)]
    assert (v.rows, v.model, v.method) == ("one", None, "GGUF control vector (mistral)")
    for layer, vector in made.items():
        same(v[STREAM.format(layer)], torch.from_numpy(vector))


def test_control_vectors_are_written_as_repeng_reads_them(tmp_path):
    v = some()
    interop.write_gguf(v, tmp_path / "v.gguf", "llama")
    arch, hint, found = repeng_reads(tmp_path / "v.gguf")
    assert (arch, hint, sorted(found)) == ("controlvector", "llama", [1, 2, 3])
    for layer, vector in found.items():
        assert vector.dtype == np.float32
        assert np.array_equal(vector, v[STREAM.format(layer)].numpy())
    assert gguf.GGUFReader(tmp_path / "v.gguf").get_field("controlvector.layer_count").contents() == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_write_then_read_is_equality(tmp_path, dtype):
    v = some(range(12), method="mean difference", model="a model").map(lambda t, _: t.to(dtype))
    with pytest.warns(UserWarning, match="llama.cpp refuses a file with a vector at layer 0"):
        interop.write_gguf(v, tmp_path / "v.gguf", "llama")
    again = interop.read_gguf(tmp_path / "v.gguf")
    assert again == v.map(lambda t, _: t.float())
    assert (again.model, again.method, again.rows) == ("a model", "mean difference", "one")


def test_a_vector_that_is_a_view_and_an_older_file(tmp_path):
    matrix = torch.randn(6, 3)
    (tmp_path / "v.gguf").write_text("an older file")
    interop.write_gguf(ci.Directions({STREAM.format(1): matrix[:, 1]}), tmp_path / "v.gguf", "llama")
    same(interop.read_gguf(tmp_path / "v.gguf")[STREAM.format(1)], matrix[:, 1])
    assert [path.name for path in tmp_path.iterdir()] == ["v.gguf"]


def test_another_hook_point_for_a_control_vector(tmp_path):
    path = repeng(tmp_path / "v.gguf", {3: np.ones(4, "float32")})
    assert list(interop.read_gguf(path, hooks="blocks.{layer}.hook_mlp_out")) == ["blocks.3.hook_mlp_out"]
    with pytest.raises(InputError, match=r"hooks='blocks\.3' has no '\{layer\}'"):
        interop.read_gguf(path, hooks="blocks.3")


def test_a_control_vector_does_in_a_model_what_repeng_does(tmp_path):
    model = model_of("llama")
    inputs = inputs_of(model)
    made = {layer: np.random.default_rng(layer).standard_normal(model.d_model).astype("float32") for layer in (1, 3)}
    v = interop.read_gguf(repeng(tmp_path / "v.gguf", made))
    # repeng wraps block i and adds directions[i] to its output.
    close(added(inputs, v), hooked(inputs, [(twin_of("llama").model.layers[i], d) for i, d in made.items()]))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("blocks.2.hook_resid_pre", r"'blocks.2.hook_resid_pre' is none: only blocks.<i>.hook_resid_post can be"),
        ("blocks.2.hook_mlp_out", r"is none: only blocks.<i>.hook_resid_post"),
        ("vision.blocks.2.hook_resid_post", r"use .save\(path\) for others"),
        ("projector.hook_out", r"a control vector is added to the output of a block"),
    ],
)
def test_hook_points_that_a_control_vector_cannot_hold(tmp_path, name, why):
    with pytest.raises(InputError, match=why):
        interop.write_gguf(ci.Directions({name: torch.ones(4)}), tmp_path / "v.gguf", "llama")
    assert not list(tmp_path.iterdir())


def test_what_else_a_control_vector_cannot_hold(tmp_path):
    v = ci.Directions({STREAM.format(1): torch.ones(2, 4)}, "batch")
    with pytest.raises(InputError, match=r"has shape \(2, 4\): a control vector has one vector a layer; choose a row"):
        interop.write_gguf(v, tmp_path / "v.gguf", "llama")
    with pytest.raises(InputError, match="model_hint is empty: give the architecture, for example 'llama'"):
        interop.write_gguf(some(), tmp_path / "v.gguf", "")


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"x": np.ones(4, "float32")}, r"has a tensor 'direction.x': a control vector's are direction.<layer>"),
        ({"-1": np.ones(4, "float32")}, r"has a tensor 'direction.-1'"),
        ({1: np.ones((2, 4), "float32")}, r"direction.1 in .* has 2 axes: a control vector has one vector a layer"),
        ({1: np.ones(4, "int32")}, r"direction.1 in .* is of type I32, and only F32 and F16 are read"),
        ({1: np.ones(4, "float64")}, r"is of type F64, and only F32 and F16 are read: write it as F32"),
        ({1: np.ones(4, "float32"), 2: np.ones(5, "float32")}, r"have different widths \(4, 5\)"),
        ({}, r"holds no vector: a control vector has tensors direction.1, direction.2"),
    ],
)
def test_control_vectors_that_are_none(tmp_path, made, why):
    with pytest.raises(StoreError, match=why):
        interop.read_gguf(repeng(tmp_path / "v.gguf", made))


def test_quantised_control_vectors_are_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "controlvector")
    blocks = gguf.quants.quantize(np.ones((1, 32), "float32"), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("direction.1", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(StoreError, match=r"direction.1 in .* is of type Q8_0, and only F32 and F16 are read"):
        interop.read_gguf(tmp_path / "v.gguf")


def test_files_that_are_no_control_vectors(tmp_path):
    repeng(tmp_path / "llama.gguf", {1: np.ones(4, "float32")}, arch="llama")
    repeng(tmp_path / "nan.gguf", {1: np.full(4, np.nan, "float32")})
    (tmp_path / "words.gguf").write_text("these are words")
    (tmp_path / "empty.gguf").touch()
    (tmp_path / "folder.gguf").mkdir()
    torch.save({"a": torch.ones(2)}, tmp_path / "v.pt")
    (tmp_path / "v.pkl").write_bytes(pickle.dumps({}))
    for name, words in {
        "none.gguf": "none.gguf does not exist",
        "llama.gguf": "holds a GGUF 'llama', not a 'controlvector': pass a control vector",
        "words.gguf": r"words.gguf is no GGUF file, or it is damaged \(GGUF magic invalid\): copy it again",
        "empty.gguf": "empty.gguf is no GGUF file, or it is damaged",
        "folder.gguf": r"folder.gguf cannot be read \(",
        "v.pt": r"is or may hold a pickle, which runs code when opened, and is never read: write the control vector as",
        "v.pkl": "is or may hold a pickle",
    }.items():
        with pytest.raises(StoreError, match=words):
            interop.read_gguf(tmp_path / name)
    with pytest.raises(InputError, match=r"the direction at 'blocks.1.hook_resid_post' has NaN"):
        interop.read_gguf(tmp_path / "nan.gguf")


def test_a_control_vector_cut_anywhere(tmp_path):
    data = repeng(tmp_path / "v.gguf", {1: np.ones(4, "float32"), 2: np.ones(4, "float32")}).read_bytes()
    # The last vector is followed by padding, which is not missed.
    end = len(data) - 16
    for length in range(end):
        (tmp_path / "cut.gguf").write_bytes(data[:length])
        with pytest.raises(StoreError, match=r"cut\.gguf is no GGUF file, or it is damaged \("):
            interop.read_gguf(tmp_path / "cut.gguf")


def test_a_control_vector_with_any_one_bit_flipped(tmp_path):
    data = repeng(tmp_path / "v.gguf", {1: np.ones(4, "float32")}).read_bytes()
    for place in range(len(data)):
        bad = bytearray(data)
        bad[place] ^= 1 << (place % 8)
        (tmp_path / "bad.gguf").write_bytes(bad)
        # Either it is noticed, in our words, or a number has changed, which nothing in the format tells.
        with suppress(StoreError, InputError):
            interop.read_gguf(tmp_path / "bad.gguf")
    # A string whose type became "array": its length is then a number of letters' bytes, which gguf would count out.
    place = data.index(b"general.architecture") + len(b"general.architecture")
    hint = data.index(b"controlvector.model_hint") + len(b"controlvector.model_hint")
    for at in (place, hint):
        bad = bytearray(data)
        assert bad[at] == 8
        bad[at] = 9
        (tmp_path / "bad.gguf").write_bytes(bad)
        with pytest.raises(StoreError, match="it is damaged"):
            interop.read_gguf(tmp_path / "bad.gguf")


def test_without_the_gguf_package(tmp_path, monkeypatch):
    path = repeng(tmp_path / "v.gguf", {1: np.ones(4, "float32")})
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(StoreError, match=r"need the gguf package: pip install 'cmrm-interp\[interop\]'"):
        interop.read_gguf(path)
    with pytest.raises(StoreError, match="need the gguf package"):
        interop.write_gguf(some(), tmp_path / "w.gguf", "llama")


# ---- SAELens

D_SAE, D_IN = 10, 6
OLD = {"hook_point": "blocks.4.hook_resid_pre", "d_sae": D_SAE, "d_in": D_IN, "activation_fn_str": "relu"}
MIDDLE = {"hook_name": "blocks.5.hook_mlp_out", "architecture": "jumprelu", "hook_head_index": None}
NEW = {
    "d_in": D_IN,
    "d_sae": D_SAE,
    "dtype": "float32",
    "normalize_activations": "none",
    "reshape_activations": "none",
    "architecture": "standard",
    "metadata": {"sae_lens_version": "6.54.12", "hook_name": "blocks.7.hook_resid_post", "model_name": "gpt2"},
}
TRANSCODER = {
    **NEW,
    "metadata": {"hook_name": "blocks.7.ln2.hook_normalized", "hook_name_out": "blocks.7.hook_mlp_out"},
}


def autoencoder(folder, config=NEW, dtype=torch.float32, **tensors):
    """A folder as SAELens's `SAE.save_model` writes it."""
    g = torch.Generator().manual_seed(0)
    state = {
        "W_enc": torch.randn(D_IN, D_SAE, generator=g),
        "W_dec": torch.randn(D_SAE, D_IN, generator=g),
        "b_enc": torch.zeros(D_SAE),
        "b_dec": torch.zeros(D_IN),
    }
    folder.mkdir(exist_ok=True)
    state = {**{name: value.to(dtype) for name, value in state.items()}, **tensors}
    save_file(state, folder / "sae_weights.safetensors")
    if config is not None:
        (folder / "cfg.json").write_text(json.dumps(config))
    return folder, state["W_dec"]


@pytest.mark.parametrize(
    ("config", "hook"),
    [
        (OLD, "blocks.4.hook_resid_pre"),
        (MIDDLE, "blocks.5.hook_mlp_out"),
        (NEW, "blocks.7.hook_resid_post"),
        (TRANSCODER, "blocks.7.hook_mlp_out"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sae_features(tmp_path, config, hook, dtype):
    folder, decoder = autoencoder(tmp_path / "sae", config, dtype)
    one = interop.read_sae(folder, 3)
    assert (list(one), one.rows, one.method) == ([hook], "one", "SAE decoder of sae, feature 3")
    same(one[hook], decoder[3])
    assert interop.read_sae(folder / "sae_weights.safetensors", [3]) == one
    several = interop.read_sae(folder, [9, 0, 4])
    assert (several.rows, several.method) == ("subspace", "SAE decoder of sae, features 9, 0, 4")
    same(several[hook], decoder[[9, 0, 4]])


def test_a_hook_point_of_ones_own_for_an_sae(tmp_path):
    folder, decoder = autoencoder(tmp_path / "sae", None)
    v = interop.read_sae(folder, 1, hook="blocks.0.hook_resid_post")
    same(v["blocks.0.hook_resid_post"], decoder[1])
    with pytest.raises(StoreError, match=r"has no cfg.json: copy it too, or say hook='blocks"):
        interop.read_sae(folder, 1)


def test_features_that_an_sae_does_not_have(tmp_path):
    folder, _ = autoencoder(tmp_path / "sae")
    for features, words in {10: r"no feature 10: this autoencoder has 10 \(0-9\)", -1: "no feature -1"}.items():
        with pytest.raises(InputError, match=words):
            interop.read_sae(folder, features)
    with pytest.raises(InputError, match="features is empty: name at least one"):
        interop.read_sae(folder, [])


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({**NEW, "reshape_activations": "hook_z"}, InputError, "reads single heads"),
        ({**MIDDLE, "hook_head_index": 3}, InputError, "whose output is no direction of the stream"),
        ({**NEW, "normalize_activations": "covariance_whitening"}, InputError, "fold the whitening"),
        ({**NEW, "metadata": {}}, StoreError, "cfg.json names no hook point: say hook="),
        ({**NEW, "metadata": None}, StoreError, "cfg.json names no hook point"),
        ([], StoreError, "is not a configuration of SAELens: copy it again"),
    ],
)
def test_saes_that_cannot_be_used(tmp_path, config, error, words):
    folder, _ = autoencoder(tmp_path / "sae", config)
    with pytest.raises(error, match=words):
        interop.read_sae(folder, 0)


def test_damaged_saes(tmp_path):
    folder, _ = autoencoder(tmp_path / "sae")
    whole = (folder / "sae_weights.safetensors").read_bytes()
    (folder / "sae_weights.safetensors").write_bytes(whole[:-9])
    with pytest.raises(StoreError, match=r"sae_weights.safetensors is truncated or corrupt \("):
        interop.read_sae(folder, 0)
    (folder / "cfg.json").write_text('{"hook_name": ')
    with pytest.raises(StoreError, match=r"cfg.json is no JSON \("):
        interop.read_sae(folder, 0)
    (folder / "cfg.json").unlink()
    save_file({"W_enc": torch.ones(2, 3)}, folder / "sae_weights.safetensors")
    with pytest.raises(StoreError, match="has no W_dec but W_enc: it is no SAELens file"):
        interop.read_sae(folder, 0, hook=STREAM.format(0))
    for value, words in ((torch.ones(4), r"has shape \(4,\): a decoder is"), (torch.ones(2, 3).int(), "torch.int32")):
        save_file({"W_dec": value}, folder / "sae_weights.safetensors")
        with pytest.raises(StoreError, match=words):
            interop.read_sae(folder, 0, hook=STREAM.format(0))


def test_pickled_saes_are_refused(tmp_path):
    (tmp_path / "sae").mkdir()
    with pytest.raises(StoreError, match=r"has no sae_weights.safetensors: give the folder that SAELens saved"):
        interop.read_sae(tmp_path / "sae", 0)
    torch.save({"W_dec": torch.ones(2, 3)}, tmp_path / "sae" / "sae.pt")
    with pytest.raises(StoreError, match=r"sae.pt is a pickle, which is never read: let SAELens"):
        interop.read_sae(tmp_path / "sae", 0)
    with pytest.raises(StoreError, match=r"sae.pt is or may hold a pickle"):
        interop.read_sae(tmp_path / "sae" / "sae.pt", 0)
    with pytest.raises(StoreError, match="does not exist"):
        interop.read_sae(tmp_path / "nothing", 0)


# ---- steering-vectors


@dataclass
class SteeringVector:
    """As in steering-vectors 0.12.2."""

    layer_activations: dict[int, torch.Tensor]
    layer_type: str = "decoder_block"


@pytest.mark.parametrize(
    ("kind", "point"),
    [("decoder_block", "hook_resid_post"), ("self_attn", "hook_attn_out"), ("mlp", "hook_mlp_out")],
)
def test_steering_vectors_there_and_back(kind, point):
    made = {5: torch.randn(6), 2: torch.randn(6)}
    v = interop.from_steering_vectors(SteeringVector(made, kind))
    assert list(v) == [f"blocks.2.{point}", f"blocks.5.{point}"]
    assert (v.rows, v.method) == ("one", f"steering_vectors ({kind})")
    again = SteeringVector(**interop.to_steering_vectors(v))
    assert (again.layer_type, sorted(again.layer_activations)) == (kind, [2, 5])
    for layer, vector in made.items():
        same(again.layer_activations[layer], vector)


@pytest.mark.parametrize("kind", ["decoder_block", "self_attn", "mlp"])
def test_a_steering_vector_does_in_a_model_what_it_does_at_home(kind):
    model = model_of("llama")
    inputs = inputs_of(model)
    made = SteeringVector({1: torch.randn(1, 1, model.d_model), -1: torch.randn(model.d_model)}, kind)
    v = interop.from_steering_vectors(made, n_layers=model.n_layers)
    # steering-vectors hooks the module of the layer and adds to its (first) output.
    module = {"decoder_block": lambda b: b, "self_attn": lambda b: b.self_attn, "mlp": lambda b: b.mlp}[kind]
    layers = twin_of("llama").model.layers
    close(added(inputs, v), hooked(inputs, [(module(layers[i]), t) for i, t in made.layer_activations.items()]))


def test_what_is_no_steering_vector():
    for value, error, words in (
        (SteeringVector({1: torch.ones(2)}, "input_layernorm"), InputError, "'input_layernorm' has no hook point here"),
        (SteeringVector({-1: torch.ones(2)}), InputError, "layer -1 counts from the end: say n_layers"),
        (SteeringVector({1: torch.ones(2).int()}), InputError, "a direction of type torch.int32: it must hold"),
        (SteeringVector({}), InputError, "directions need at least one hook point"),
        (object(), InputError, "a object is no steering_vectors.SteeringVector"),
    ):
        with unchecked(), pytest.raises(error, match=words):
            interop.from_steering_vectors(value)
    with pytest.raises(HookPointError, match=r"no layer 4: this model has 4 layers \(0-3\)"):
        interop.from_steering_vectors(SteeringVector({4: torch.ones(2)}), n_layers=4)


def test_directions_that_no_steering_vector_holds():
    mixed = ci.Directions({"blocks.1.hook_resid_post": torch.ones(2), "blocks.1.hook_mlp_out": torch.ones(2)})
    vision = ci.Directions({"vision.blocks.1.hook_resid_post": torch.ones(2)})
    for v in (mixed, vision):
        with pytest.raises(InputError, match=r"a SteeringVector has one kind of blocks.<i>.hook_resid_post, "):
            interop.to_steering_vectors(v)
    with pytest.raises(InputError, match="one vector a layer: choose a row"):
        interop.to_steering_vectors(ci.Directions({STREAM.format(1): torch.ones(2, 3)}))


# ---- RepE


@dataclass
class PCARepReader:
    """The state of RepE's reader: ``components_`` of scikit-learn's PCA and an array of signs, by layer."""

    n_components: int = 1
    directions: Any = None
    direction_signs: Any = None
    H_train_means: dict = field(default_factory=dict)


def fitted(layers, width=6, components=2):
    rng = np.random.default_rng(0)
    return PCARepReader(
        components,
        {layer: rng.standard_normal((components, width)).astype("float32") for layer in layers},
        {layer: rng.choice([-1.0, 1.0], components) for layer in layers},
    )


@pytest.mark.parametrize("component", [0, 1])
def test_repe_readers(component):
    reader = fitted(range(-1, -4, -1))
    v = interop.from_repe(reader, n_layers=4, component=component)
    assert list(v) == [STREAM.format(i) for i in (1, 2, 3)]
    assert (v.rows, v.method) == ("one", f"RepE PCARepReader, component {component}")
    for key, layer in ((-1, 3), (-2, 2), (-3, 1)):
        want = reader.direction_signs[key][component] * reader.directions[key][component]
        same(v[STREAM.format(layer)], torch.from_numpy(want.astype("float32")))


def test_repe_counts_layers_as_hidden_states():
    model = model_of("llama")
    inputs = inputs_of(model)
    hidden = twin_of("llama")(**inputs.tensors, output_hidden_states=True).hidden_states
    for key in (0, 1, 3, -2, -4, -5):
        (name,) = interop.from_repe(fitted([key]), n_layers=model.n_layers)
        close(model.capture(inputs, name, "all")[name], hidden[key].detach())


def test_repes_control_adds_where_we_add():
    model = model_of("llama")
    inputs = inputs_of(model)
    reader = fitted([-1, -3], width=model.d_model)
    v = interop.from_repe(reader, model.n_layers)
    # RepE's control: layers[layer_id] is wrapped, and coefficient * direction * sign is added to its output.
    signed = [(key, rows[0] * reader.direction_signs[key][0]) for key, rows in reader.directions.items()]
    close(added(inputs, v), hooked(inputs, [(twin_of("llama").model.layers[key], vector) for key, vector in signed]))


def test_repe_readers_without_signs_and_with_tensors():
    reader = PCARepReader(directions={-2: torch.ones(1, 6), -3: [[2.0] * 6]})
    v = interop.from_repe(reader, n_layers=4)
    same(v[STREAM.format(2)], torch.ones(6))
    assert float(v[STREAM.format(1)].sum()) == 12.0


def test_what_is_no_repe_reader():
    unsigned = fitted([-1, -2])
    del unsigned.direction_signs[-2]
    for value, error, words in (
        (PCARepReader(), InputError, "has no directions: fit it first"),
        (object(), InputError, "a object is no RepE reader"),
        (fitted([-6]), HookPointError, "no hidden state -6: a model of 4 layers has 0 to 4"),
        (fitted([5]), HookPointError, "no hidden state 5"),
        (unsigned, InputError, "a direction but no sign at layer -2"),
    ):
        with unchecked(), pytest.raises(error, match=words):
            interop.from_repe(value, n_layers=4)
    for component in (2, -1):
        with pytest.raises(InputError, match=f"no component {component} at layer -1: this reader has 2"):
            interop.from_repe(fitted([-1]), n_layers=4, component=component)


def test_a_vector_of_ours_in_every_format_is_the_same_vector(tmp_path):
    model = model_of("llama")
    v = vectors(model).at([1, 2, 3])
    interop.write_gguf(v, tmp_path / "v.gguf", "llama")
    back = interop.from_steering_vectors(SteeringVector(**interop.to_steering_vectors(v)))
    assert interop.read_gguf(tmp_path / "v.gguf") == back == v
