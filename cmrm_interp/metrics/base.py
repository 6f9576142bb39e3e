"""What a metric is: what it needs to see, and one number a prompt."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import InputError
from cmrm_interp.positions import Tokens


@dataclass(frozen=True)
class Needs:
    """What a metric has to see of a run.

    Attributes:
        logits: ``"last"`` for those of the next token, ``"all"`` for every position, None for none.
        hooks: hook points of the decoder, each at the last prompt token; a pattern must mean one of them.
        new_tokens: length of greedy answers; 0 for none.
        clean: whether the clean model's logits on the same prompts are needed, too.
    """

    logits: Literal["last", "all"] | None = None
    hooks: tuple[str, ...] = ()
    new_tokens: int = 0
    clean: bool = False


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of one run on some prompts.

    Attributes:
        logits: ``batch vocab`` of the next token, or ``batch pos vocab``, padded on the left.
        tokens: of the prompts.
        activations: by hook point, as the metric named it, ``batch *shape``.
        answer: gives the first so many new tokens of each answer, as text.
        clean: the clean model's logits of the next token, ``batch vocab``.
    """

    logits: Tensor | None = None
    tokens: Tokens | None = None
    activations: Mapping[str, Tensor] = field(default_factory=dict)
    answer: Callable[[int], list[str]] | None = None
    clean: Float[Tensor, "batch vocab"] | None = None

    @property
    def last(self) -> Float[Tensor, "batch vocab"]:
        """Logits of the next token, in fp32 or better.

        Raises:
            InputError: no logits were asked for.
        """
        if self.logits is None:
            raise InputError("this metric asked for no logits: give it Needs(logits='last')")
        return _wide(self.logits[:, -1] if self.logits.ndim == 3 else self.logits)


class Metric(ABC):
    """Base of all metrics. A frozen value."""

    name: str

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What it has to see."""

    @abstractmethod
    def measure(self, seen: Seen) -> Float[Tensor, " batch"]:
        """One finite number a prompt."""

    @property
    def unit(self) -> str:
        """Unit of the numbers, for axes of figures; empty where there is none."""
        return ""

    @property
    def share(self) -> bool:
        """Whether each number is 0 or 1, so that their mean is a share with a Wilson interval."""
        return False


class NextToken(Metric):
    """A metric of the logits of the next token alone; it can be called on them."""

    @property
    def needs(self) -> Needs:
        """Logits of the next token."""
        return Needs(logits="last")

    def __call__(self, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
        """The metric of some logits, for example ``metric(model.logits(inputs))``."""
        return self.measure(Seen(logits))


@dataclass(frozen=True)
class FunctionMetric(NextToken):
    """Any function of the logits of the next token.

    Attributes:
        name: for tables.
        function: from ``batch vocab`` to ``batch``.
    """

    name: str
    function: Callable[[Tensor], Tensor]

    def measure(self, seen: Seen) -> Any:
        """What the function returns."""
        return self.function(seen.last)


Given = Metric | Callable[[Tensor], Tensor]
Metrics = Given | Iterable[Given] | Mapping[str, Given]


def named(metrics: Metrics) -> dict[str, Metric]:
    """Metrics by name, whether one was given, several, or a dict.

    Args:
        metrics: metrics, or functions from logits ``batch vocab`` to ``batch``, which are called by their own names.

    Raises:
        InputError: none, two of one name, or something else.
    """
    pairs: list[tuple[str, Metric]]
    if isinstance(metrics, Mapping):
        pairs = [(str(name), _metric(given)) for name, given in metrics.items()]
    else:
        several = [metrics] if isinstance(metrics, Metric) or callable(metrics) else _listed(metrics)
        pairs = [(metric.name, metric) for metric in map(_metric, several)]
    if not pairs:
        raise InputError("no metric: give a function from logits 'batch vocab' to 'batch', or one of ci.metrics")
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two metrics are called {twice[0]!r}: give a dict, {{'one name': metric, 'another': metric}}")
    return dict(pairs)


def _listed(metrics: Any) -> list[Any]:
    if not isinstance(metrics, Iterable) or isinstance(metrics, str):
        raise InputError(f"metric is a {type(metrics).__name__}: give a function of logits, or one of ci.metrics")
    return list(metrics)


def _metric(given: Any) -> Metric:
    if isinstance(given, Metric):
        return given
    if not callable(given):
        raise InputError(f"a metric is a {type(given).__name__}: give a function of logits, or one of ci.metrics")
    name = getattr(given, "__name__", type(given).__name__)
    function: Callable[[Tensor], Any] = given
    return FunctionMetric("metric" if name == "<lambda>" else name, function)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype.itemsize >= 4 else logits.float()
