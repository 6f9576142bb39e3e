"""What a page registers is forgotten behind it."""

import pytest

from cmrm_interp.images import MAKERS
from cmrm_interp.recipes import RECIPES


@pytest.fixture(autouse=True)
def _forgotten():
    """Recipes and kinds of images that a page added are gone for whatever runs next."""
    kept = [(registry, dict(registry)) for registry in (RECIPES, MAKERS)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)
