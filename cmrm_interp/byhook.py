"""A mapping from hook point to tensor, which also takes patterns that mean a single point."""

from collections.abc import Iterator, Mapping, Sequence

from cmrm_interp.aliases import aliases
from cmrm_interp.axes import Tensor
from cmrm_interp.errors import HookPointError
from cmrm_interp.hooks import expand, matches


class ByHook(Mapping[str, Tensor]):
    """Base of values that hold a tensor for each hook point.

    Attributes:
        tensors: hook point to tensor, in forward order.
    """

    tensors: Mapping[str, Tensor]

    def __getitem__(self, hook: str) -> Tensor:
        """Tensor at one hook point; ``blocks.-1.hook_resid_post`` and other patterns that mean one point work too.

        TransformerLens's other names are taken on both sides: in `hook`, and in what the tensors are kept by.

        Raises:
            HookPointError: there is none, or there are several.
        """
        found = self._found(hook) or expand(hook, list(self.tensors), whole=False)
        if len(found) != 1:
            raise HookPointError(f"{hook!r} means {len(found)} hook points here: {', '.join(found[:4])} ...")
        return self.tensors[found[0]]

    def __contains__(self, hook: object) -> bool:
        """Whether a name or pattern means one hook point; without working out what is wrong with others."""
        return isinstance(hook, str) and len(self._found(hook)) == 1

    def _found(self, hook: str) -> Sequence[str]:
        own = (hook, *aliases((hook,), whole=False))
        return [name for name in own if name in self.tensors][:1] or matches(hook, tuple(self.tensors), whole=False)

    def __iter__(self) -> Iterator[str]:
        """Hook points."""
        return iter(self.tensors)

    def __len__(self) -> int:
        """Number of hook points."""
        return len(self.tensors)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.tensors)
