"""Judges asked from coroutines: what comes while one judges goes to it together, next."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import anyio.to_thread

from cmrm_interp.evaluation.bars import without_loading_bars
from cmrm_interp.judges import AsyncJudge, ByText, Exchange, Judge, Judgement
from cmrm_interp.running import hide_bars

# Judges are models too, and two of them at once do not fit where one does.
_JUDGING = ThreadPoolExecutor(1, "cmrm_interp-judge", initializer=hide_bars)


@dataclass(eq=False)
class _Waiting:
    exchange: Exchange
    found: Judgement | None = None
    failed: BaseException | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is a judgement or an error."""
        return self.found is not None or self.failed is not None


@dataclass(eq=False)
class Queue:
    """Exchanges before a judge.

    Attributes:
        judge: that is asked.
        rows: most exchanges that it is given at once.
    """

    judge: Judge
    rows: int = 64
    _waiting: list[_Waiting] = field(default_factory=list)
    _turn: anyio.Lock = field(default_factory=anyio.Lock)

    async def ask(self, exchange: Exchange) -> Judgement:
        """What the judge says of an exchange.

        Raises:
            BaseException: whatever the judge raises for this exchange alone.
        """
        if isinstance(self.judge, ByText):
            return self.judge.judge([exchange])[0]
        if isinstance(self.judge, AsyncJudge):
            return (await self.judge.ajudge([exchange]))[0]
        mine = _Waiting(exchange)
        self._waiting.append(mine)
        try:
            await self._until_done(mine)
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
        if mine.failed is not None:
            raise mine.failed
        assert mine.found is not None
        return mine.found

    async def _until_done(self, mine: _Waiting) -> None:
        # Others that are ready to ask come first, so that they are in the batch.
        await anyio.lowlevel.checkpoint()
        while not mine.is_done:
            async with self._turn:
                if not mine.is_done:
                    batch, self._waiting[: self.rows] = self._waiting[: self.rows], []
                    await self._run(batch)

    async def _run(self, batch: Sequence[_Waiting]) -> None:
        failed = await self._judge(batch)
        # What is wrong with one exchange must not leave the others unjudged.
        for waiting in batch if failed is not None else ():
            waiting.failed = failed if len(batch) == 1 else await self._judge([waiting])

    async def _judge(self, batch: Sequence[_Waiting]) -> BaseException | None:
        running = _JUDGING.submit(self._said, [waiting.exchange for waiting in batch])
        failed = await anyio.to_thread.run_sync(running.exception, abandon_on_cancel=True)
        if failed is None:
            for waiting, found in zip(batch, running.result(), strict=True):
                waiting.found = found
        return failed

    def _said(self, exchanges: Sequence[Exchange]) -> list[Judgement]:
        # Judges are loaded at their first use.
        with without_loading_bars():
            return self.judge.judge(exchanges)
