"""What stands in the place of a network that was freed."""

from typing import NoReturn

from cmrm_interp.errors import ModelError


class Closed:
    """A network that is gone: whatever is asked of it is an error that says so."""

    def __init__(self, name: str) -> None:
        """Stand for the model of a name."""
        self._name = name

    def __getattr__(self, asked: str) -> NoReturn:
        """Refuse."""
        raise ModelError(f"the model {self.__dict__.get('_name')!r} was closed: load it again with ci.load(...)")
