"""Signatures: equal for equal functions, also in another process, and different for what does something else."""

import subprocess
import sys

import pytest

from cmrm_interp.signature import Signer

LOUD = """
from cmrm_interp.signature import Signer
print(Signer()(eval("lambda text: text in {'a', 'b', 'c', 'd'} and [c.upper() for c in text]")))
"""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lambda x: x.lower()", "lambda x: x.upper()"),
        ("lambda x: 1", "lambda x: 2"),
        ("lambda x: [c.lower() for c in x]", "lambda x: [c.upper() for c in x]"),
        ("lambda x: (lambda: 1)()", "lambda x: (lambda: 2)()"),
        ("lambda x: x in {'a', 'b'}", "lambda x: x in {'a', 'c'}"),
        ("lambda x, *, y=1: y", "lambda x, *, y=2: y"),
    ],
)
def test_functions_that_do_something_else_sign_otherwise(one, other):
    sign = Signer()
    assert sign(eval(one)) == sign(eval(one))
    assert sign(eval(one)) != sign(eval(other))


def test_a_function_signs_alike_in_every_process():
    said = {
        subprocess.run(
            [sys.executable, "-c", LOUD], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
