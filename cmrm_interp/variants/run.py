"""How each variant is run."""

from collections.abc import Iterator, Sequence

from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.interventions import Intervention
from cmrm_interp.tracing import Network
from cmrm_interp.variants.base import Outcome, Wants
from cmrm_interp.variants.whole import run_whole


def run_variants(
    network: Network, encoder: Encoder, batch: Batch, variants: Sequence[Sequence[Intervention]], wants: Wants
) -> Iterator[Outcome]:
    """Every variant on one batch, as each is done; their order may be another.

    Args:
        network: the model.
        encoder: of the model.
        batch: rows, padded on the left.
        variants: lists of checked interventions; an empty one is the clean model.
        wants: what is asked of each.
    """
    for number, acting in enumerate(variants):
        yield run_whole(network, encoder, batch, number, acting, wants)
