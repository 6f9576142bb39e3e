"""The model and the prompts that are shown and explored."""

import pytest

from tests.support import fresh, inputs_of


@pytest.fixture(scope="module")
def model():
    return fresh("llava")


@pytest.fixture(scope="module")
def inputs(model):
    return inputs_of(model, kind="mixed")
