"""Training on a tiny scale: resumes to the same weights, trains only what it says, saves what loads."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from cmrm_interp import organism
from cmrm_interp.errors import InputError, StoreError
from cmrm_interp.organism import gates, loop, training
from cmrm_interp.organism.batches import encode_prompts
from cmrm_interp.organism.checkpoints import load_checkpoint, save_checkpoint
from cmrm_interp.organism.config import ModelConfig
from cmrm_interp.organism.network import build_network, parameters
from cmrm_interp.organism.recipe import STAGES

SCALE = 0.002


class Killed(BaseException):
    """What a test raises in the middle of a run."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return organism.train(tmp_path_factory.mktemp("run"), seed=3, steps_scale=SCALE, progress=False)


def weights(folder, name="model"):
    return load_file(folder / f"{name}.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_killed_run_resumes_to_the_same_weights(trained, tmp_path, monkeypatch):
    steps = []

    def step_or_die(*args):
        steps.append(1)
        if len(steps) == 7:
            raise Killed
        return original(*args)

    original = loop._step
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", step_or_die)
        with pytest.raises(Killed):
            organism.train(tmp_path, seed=3, steps_scale=SCALE, progress=False)
    assert 0 < len(list((tmp_path / "stages").glob("*.safetensors"))) < len(STAGES)
    assert not (tmp_path / "model.safetensors").exists()
    organism.train(tmp_path, seed=3, steps_scale=SCALE, progress=False)
    assert same(weights(tmp_path), weights(trained))


def test_the_seed_decides_the_weights(trained, tmp_path):
    organism.train(tmp_path, seed=4, steps_scale=SCALE, progress=False)
    assert not same(weights(tmp_path), weights(trained))


def test_a_folder_belongs_to_one_run(trained):
    with pytest.raises(InputError, match=r"holds stages of seed 3 at steps_scale 0.002, not of seed 5"):
        organism.train(trained, seed=5, steps_scale=SCALE, progress=False)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_steps_scale_has_to_be_positive(tmp_path, scale):
    with pytest.raises(InputError, match=r"steps_scale is"):
        organism.train(tmp_path, steps_scale=scale)


def test_each_stage_moves_only_what_it_says(trained):
    network = build_network(ModelConfig(), 3)
    names = {id(weight): name for name, weight in network.named_parameters()}
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    for stage in STAGES:
        load_checkpoint(network, trained / "stages" / f"{stage.name}.safetensors")
        after = dict(network.named_parameters())
        moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
        allowed = {names[id(weight)] for weight in parameters(network, stage.trains)}
        assert moved
        assert moved <= allowed
        before = {name: weight.detach().clone() for name, weight in after.items()}


def test_the_organism_loads_and_answers_as_it_was_trained(trained):
    loaded = AutoModelForImageTextToText.from_pretrained(trained)
    network = build_network(ModelConfig(), 0)
    load_checkpoint(network, trained / "stages" / f"{STAGES[-1].name}.safetensors")
    inputs = encode_prompts(["is it red?"], [None])
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, network(**inputs).logits)
    assert not loaded.generation_config.do_sample


def test_the_backbone_is_the_decoder_before_it_met_an_image(trained):
    backbone = AutoModelForCausalLM.from_pretrained(trained / "backbone")
    tokenizer = AutoTokenizer.from_pretrained(trained / "backbone")
    network = build_network(ModelConfig(), 0)
    load_checkpoint(network, trained / "stages" / "1b.safetensors")
    messages = [{"role": "user", "content": "is it red?"}]
    got = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    inputs = encode_prompts(["is it red?"], [None])
    assert torch.equal(got["input_ids"], inputs["input_ids"])
    with torch.no_grad():
        assert torch.equal(backbone(**inputs).logits, network(**inputs).logits)


def test_curves_are_kept(trained):
    record = json.loads((trained / "stages" / "1a.json").read_text())
    assert record["seed"] == 3
    assert record["curve"][-1][0] == max(1, round(STAGES[1].steps * SCALE))


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    save_checkpoint(build_network(ModelConfig(layers=1), 0), tmp_path / "small.safetensors")
    with pytest.raises(StoreError, match=r"weights of another network"):
        load_checkpoint(build_network(ModelConfig(layers=2), 0), tmp_path / "small.safetensors")


def test_a_failed_gate_names_the_figure(trained, tmp_path):
    network = build_network(ModelConfig(), 0)
    shutil.copy(trained / "stages" / "1b.json", tmp_path)
    stage = next(stage for stage in STAGES if stage.name == "1b")
    record = json.loads((tmp_path / "1b.json").read_text())
    (tmp_path / "1b.json").write_text(
        json.dumps(record | {"gates": {"unsafe on text": 0.5, "benign refused on text": 0.0}})
    )
    with pytest.raises(gates.GateError, match=r"stage 1b did not pass: unsafe on text 0\.500, wanted at most"):
        training._gate(network, stage, tmp_path / "1b.json")


def test_gates_measure_every_figure_on_any_network(monkeypatch):
    monkeypatch.setattr(gates, "_N", 4)
    measured = gates.check("2b", build_network(ModelConfig(layers=1), 0))
    assert measured["visual questions right"] == 0
    assert gates.failures("2b", measured)[-1].startswith("visual questions right 0.000, wanted at least")


def test_a_running_average_replaces_the_weights():
    weight = torch.nn.Parameter(torch.zeros(3))
    schedule = loop.Schedule("x", steps=30, lr=0.1, average=0.9)
    plain = torch.nn.Parameter(torch.zeros(3))
    loop.fit([weight], lambda: (weight - 1).square().sum(), schedule, progress=False)
    loop.fit([plain], lambda: (plain - 1).square().sum(), loop.Schedule("x", 30, 0.1), progress=False)
    assert 0 < weight[0].item() < plain[0].item()


def test_learning_rate_warms_up_and_decays():
    schedule = loop.Schedule("x", steps=200, lr=1.0)
    rates = [loop.learning_rate(schedule, step) for step in range(200)]
    assert rates[0] < 0.03
    assert max(rates) > 0.8
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
