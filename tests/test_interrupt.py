"""Kernel > Interrupt in the midst of a run: the model is left as it was, and the next cell works."""

import re
import signal
from pathlib import Path

import pytest

import cmrm_interp as ci
from tests.support import STREAM, fresh, inputs_of, same, vectors

PACKAGE = Path(ci.__file__).parent


@pytest.fixture(scope="module")
def model():
    return fresh("llava")


def raised(x, hook):
    raise KeyboardInterrupt


def signalled(x, hook):
    """What Jupyter does: a signal, which Python turns into the exception wherever it is."""
    signal.raise_signal(signal.SIGINT)


def at_call(number, stop):
    """A hook that stops at its so-manieth call, and changes the stream before."""
    calls = []

    def fn(x, hook):
        calls.append(hook)
        return stop(x, hook) if len(calls) == number else x + 1.0

    return ci.Hook("blocks.1.hook_resid_post", fn, positions="all")


def hooks_of(hf):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in hf.modules())


RUNS = {
    "generate": (3, lambda model, inputs, acting: model.generate(inputs, acting, max_new_tokens=6)),
    "capture": (1, lambda model, inputs, acting: model.capture(inputs, STREAM, interventions=acting)),
    "logits": (2, lambda model, inputs, acting: model.logits(inputs, acting, batch_size=1)),
    "stream": (2, lambda model, inputs, acting: list(model.stream(inputs, STREAM, "last", acting, batch_size=1))),
    "steps": (3, lambda model, inputs, acting: model.generate_with_capture(inputs, STREAM, acting, 6)),
}


@pytest.mark.parametrize("stop", [raised, signalled])
@pytest.mark.parametrize("run", RUNS)
def test_an_interrupt_leaves_the_model_clean(model, run, stop):
    inputs, steering = inputs_of(model, kind="image"), ci.Add(vectors(model), 0.5)
    before = model.logits(inputs), model.logits(inputs, steering), model.generate_tokens(inputs, steering, 5)
    weights, hooks = model.fingerprint, hooks_of(model.hf)
    number, call = RUNS[run]
    with pytest.raises(KeyboardInterrupt):
        call(model, inputs, [steering, at_call(number, stop)])
    same(model.logits(inputs), before[0])
    same(model.logits(inputs, steering), before[1])
    same(model.generate_tokens(inputs, steering, 5), before[2])
    assert (model.fingerprint, hooks_of(model.hf), model.hf.training) == (weights, hooks, False)


def test_progress_is_shown_as_the_front_end_likes_it():
    used = {line for path in PACKAGE.rglob("*.py") for line in re.findall(r".*\bimport tqdm\b.*", path.read_text())}
    assert {line.strip() for line in used} == {"from tqdm.auto import tqdm"}
