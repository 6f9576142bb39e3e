"""A mapping from hook point to tensor, which also takes patterns that mean a single point."""

from collections.abc import Iterator, Mapping

from cmrm_interp.aliases import aliases
from cmrm_interp.axes import Tensor
from cmrm_interp.errors import HookPointError
from cmrm_interp.hooks import expand


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
        if hook in self.tensors:
            return self.tensors[hook]
        for other in aliases((hook,), whole=False):
            if other in self.tensors:
                return self.tensors[other]
        found = expand(hook, list(self.tensors), whole=False)
        if len(found) != 1:
            raise HookPointError(f"{hook!r} means {len(found)} hook points here: {', '.join(found[:4])} ...")
        return self.tensors[found[0]]

    def __iter__(self) -> Iterator[str]:
        """Hook points."""
        return iter(self.tensors)

    def __len__(self) -> int:
        """Number of hook points."""
        return len(self.tensors)
