"""A variant run from its first edit on: what comes before it is that of the clean model."""

from cmrm_interp.axes import Tensor
from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.running import edits, forward
from cmrm_interp.tracing import Network, Visit
from cmrm_interp.variants.base import KeepLast, Outcome, Wants
from cmrm_interp.variants.clean import Clean
from cmrm_interp.variants.route import Route, skips_of


def run_resumed(network: Network, encoder: Encoder, batch: Batch, route: Route, clean: Clean, wants: Wants) -> Outcome:
    """One variant on a left-padded batch.

    Args:
        network: the model.
        encoder: of the model.
        batch: rows, padded on the left.
        route: the variant, and what its pass leaves out.
        clean: of the batch, with what the modules left out returned.
        wants: logits, activations, or both.
    """
    variant, logits = route.variant, clean.logits
    found = {name: clean.activations[name] for name in wants.activations if name in route.clean}
    later = [name for name in wants.activations if name not in route.clean]
    if variant.by_hook and (wants.logits or later):
        visits: dict[str, Visit] = dict(edits(network, encoder, variant.acting, batch))
        visits |= {name: KeepLast(name, found, visits.get(name)) for name in later}
        kept = 0 if wants.logits == "all" else 1
        skips = skips_of(route, clean.raw)
        output = forward(network, batch, visits, stop=wants.logits is None, skips=skips, logits_to_keep=kept)
        logits = logits if output is None else output.logits
    return Outcome(variant.number, "resumed", _asked(logits, wants), {name: found[name] for name in wants.activations})


def _asked(logits: Tensor, wants: Wants) -> Tensor | None:
    if wants.logits is None:
        return None
    return logits.cpu() if wants.logits == "all" else logits[:, -1].cpu()
