"""Which tokens and modules a variant changes, and so how much of a run it can share with the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cmrm_interp.axes import Tensor
from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.hooks import pos_axis
from cmrm_interp.interventions import Intervention
from cmrm_interp.positions import as_selector
from cmrm_interp.prefix import forgets
from cmrm_interp.remote import RemoteNetwork
from cmrm_interp.running import acting_at
from cmrm_interp.tracing import Network
from cmrm_interp.variants.base import Wants

_MASKED = ("eager", "sdpa")


@dataclass(frozen=True)
class Variant:
    """One list of interventions on one batch.

    Attributes:
        number: of the variant.
        acting: its interventions.
        by_hook: those that act on this batch, by hook point.
        start: first column of the prompt that its edits change; the last column if they change none.
    """

    number: int
    acting: Sequence[Intervention]
    by_hook: Mapping[str, Sequence[Intervention]]
    start: int

    @classmethod
    def of(cls, network: Network, batch: Batch, number: int, acting: Sequence[Intervention]) -> "Variant":
        """Read off where the interventions act.

        Raises:
            HookPointError: a hook point or position that there is not.
        """
        by_hook = acting_at(network, acting, batch)
        tokens = [i for name, found in by_hook.items() if not network.points[name].is_vision for i in found]
        last = batch.tokens.real.shape[1] - 1
        return cls(
            number, acting, by_hook, min([last, *(_first(as_selector(i.positions).mask(batch.tokens)) for i in tokens)])
        )

    def changed(self, network: Network) -> frozenset[str]:
        """Hook points at which something is changed, and not only looked at."""
        names = list(network.points)
        looking = {id(i): set(i.reads(names)) for found in self.by_hook.values() for i in found}
        return frozenset(name for name, found in self.by_hook.items() if any(name not in looking[id(i)] for i in found))


def why_not(
    network: Network, encoder: Encoder, batch: Batch, acting: Sequence[Intervention], wants: Wants | None = None
) -> str | None:
    """Why a variant cannot run behind a prompt that it shares with the others, in one sentence.

    Args:
        network: the model.
        encoder: of the model.
        batch: rows, padded on the left.
        acting: interventions, checked.
        wants: what is asked of it.

    Returns:
        None if it can: then none of its edits makes it run the prompt again.
    """
    return obstacle(network, batch, Variant.of(network, batch, 0, acting), wants or Wants())


def obstacle(network: Network, batch: Batch, variant: Variant, wants: Wants) -> str | None:
    """Why a variant cannot run behind a shared prompt; see `why_not`."""
    return _of_model(network) or _of_edits(network, batch, variant, wants)


def _of_model(network: Network) -> str | None:
    if isinstance(network, RemoteNetwork):
        return "the model runs elsewhere, where each run is sent as a whole"
    if not network.family.one_way:
        return f"tokens of a prompt may see later ones in models of the family {network.family.name!r}"
    kind = network.hf.config.get_text_config()._attn_implementation
    if kind not in _MASKED:
        return f"{kind!r} attention takes no mask of one's own: load the model with attn_implementation='sdpa'"
    return None


def _of_edits(network: Network, batch: Batch, variant: Variant, wants: Wants) -> str | None:
    longest = batch.tokens.real.shape[1] + wants.new_tokens
    for name, found in variant.by_hook.items():
        if network.points[name].is_vision:
            return f"{name!r} lies on the image's side, which is run before the prompt"
        if wants.new_tokens and pos_axis(name) == 2 and forgets(network, longest):
            return f"{name!r} has a sliding window of keys, which moves on with each new token"
        for intervention in found:
            if not intervention.by_token:
                return f"{type(intervention).__name__} is given the activations of all tokens at once"
    if bool(batch.tokens.image[:, variant.start :].any()):
        return "its edits begin at or before an image's tokens"
    width = batch.tokens.real.shape[1]
    if not wants.new_tokens and 2 * (width - variant.start) > width:
        return "most of the prompt stands behind its first edit, so that going on from the changed block costs less"
    return None


def _first(mask: Tensor) -> int:
    columns = mask.any(0).nonzero().flatten()
    return int(columns[0]) if columns.numel() else mask.shape[1]
