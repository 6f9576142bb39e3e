"""Provenance says what ran, or that it does not know."""

import json
from dataclasses import asdict

from cmrm_interp import provenance
from cmrm_interp.provenance import Provenance


def test_provenance_says_what_ran():
    made = Provenance(seed=1)
    assert set(made.versions) == {"cmrm_interp", "torch", "transformers", "nnsight"}
    assert made.created.endswith("+00:00")
    assert made.commit is None or len(made.commit.removesuffix("-dirty")) == 40
    json.dumps(asdict(made))


def test_a_folder_that_is_no_checkout_has_no_commit(tmp_path):
    assert provenance._git(tmp_path, "rev-parse", "HEAD") is None
