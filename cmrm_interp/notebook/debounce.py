"""Waiting until a slider has come to rest."""

import asyncio
from collections.abc import Callable


class Debounced:
    """Calls a function once it has not been asked to for a while; at once where no event loop runs.

    A slider that is dragged asks at each of its positions, and each answer may take seconds: only the last is wanted.

    Attributes:
        call: the function.
        wait: for how long nothing must be asked, in seconds.
    """

    def __init__(self, call: Callable[[], None], wait: float) -> None:
        self.call, self.wait = call, wait
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, *_: object) -> None:
        """Ask for the call; what was asked before and has not begun is dropped."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.call()
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(self.wait, self.call)
