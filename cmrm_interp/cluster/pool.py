"""A pool of workers: jobs in, results out, each once, whatever worker or machine is lost on the way."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from cmrm_interp.cluster.crew import Crew
from cmrm_interp.cluster.dispatch import Dispatch
from cmrm_interp.cluster.session import join, leave
from cmrm_interp.cluster.worker import Worker
from cmrm_interp.errors import InputError

# A worker that is lost is started again by Ray, here or on another machine, so many times.
RESTARTS = 10


@dataclass(frozen=True)
class Sent:
    """A function that the workers of a pool have, or can fetch.

    Attributes:
        reference: Ray's.
    """

    reference: Any


class Pool:
    """Processes that each hold what a factory made; on this machine's cores, or the GPUs and cores of a cluster.

    Attributes:
        n: number of workers.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        n: int | None = None,
        address: str | None = None,
        cores: int = 1,
        gpus: float | int | None = None,
    ) -> None:
        """Start the workers.

        Args:
            make: called once in every worker (again where a lost one is restarted).
            n: number of workers; None for as many as there are GPUs, or cores where there are none.
            address: of a Ray cluster (``"host:port"``, ``"auto"``); None to start Ray on this machine.
            cores: of each worker; it computes with as many threads, unless OMP_NUM_THREADS says otherwise.
            gpus: of each worker; 0.5 puts two on a GPU. None for 1 where there are GPUs, else 0.

        Raises:
            InputError: Ray is not installed, nobody answers at the address, or the cluster has no such resources.
        """
        if cores < 1 or (n is not None and n < 1):
            raise InputError(f"{n} workers of {cores} cores: give at least 1 of each")
        self._ray = join(id(self), address, None if n is None else n * cores)
        with ExitStack() as undo:
            undo.callback(leave, id(self))
            self._gpus = _gpus(self._ray) if gpus is None else gpus
            self.n = n or _fitting(self._ray, cores, self._gpus)
            kind = self._ray.remote(Worker).options(num_cpus=cores, num_gpus=self._gpus, max_restarts=RESTARTS)
            self._workers = [kind.remote(make) for _ in range(self.n)]
            self._crew = Crew(self._ray, self._workers)
            undo.pop_all()

    def __repr__(self) -> str:
        """Number and kind of workers, one line."""
        return f"{type(self).__name__}({self.n} workers{f', {self._gpus:g} GPUs each' if self._gpus else ''})"

    def __enter__(self) -> Self:
        """The pool; `close` at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, function: Callable[[Any, Any], Any]) -> Sent:
        """Send a function that several rounds of jobs need; each worker keeps its copy from one round to the next.

        Args:
            function: sent by value where it was written in a notebook or script, else by its name.

        Raises:
            InputError: it cannot be sent, or the pool is closed.
        """
        if not self._workers:
            raise InputError("these workers are closed: make others")
        try:
            return Sent(self._ray.put(function))
        except TypeError as error:
            raise InputError(
                f"this cannot be sent to workers: {error.__cause__ or error}. Functions may hold tensors, directions"
                " and other functions, but no open file, lock or loaded model"
            ) from error

    def map(self, function: Callable[[Any, Any], Any] | Sent, jobs: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Results of ``function(held, job)`` for all jobs, as they come. Several threads may call it at once.

        Args:
            function: or one that was sent.
            jobs: taken one by one, as workers get free.

        Returns:
            Number of each job and its result, each exactly once. A job whose worker was lost is run again.

        Raises:
            InputError: the function cannot be sent, the pool is closed, or a job ends its worker time after time.
            Exception: whatever the function raised, with the job named; the other jobs are left.
        """
        sent = function if isinstance(function, Sent) else self.send(function)
        yield from Dispatch(self._crew, sent.reference, jobs).run()

    def close(self) -> None:
        """End the workers, and Ray where it was started for them; a cluster stays as it is."""
        if not self._workers:
            return
        workers, self._workers = self._workers, []
        for worker in workers:
            self._ray.kill(worker)
        leave(id(self))


def _gpus(ray: Any) -> float:
    return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0


def _fitting(ray: Any, cores: int, gpus: float) -> int:
    there = ray.cluster_resources()
    n = int(min(there.get("CPU", 0) // cores, there.get("GPU", 0) // gpus if gpus else float("inf")))
    if n < 1:
        raise InputError(
            f"no worker with {cores} cores and {gpus:g} GPUs has a place: Ray has {there.get('CPU', 0):g} cores and"
            f" {there.get('GPU', 0):g} GPUs"
        )
    return n
