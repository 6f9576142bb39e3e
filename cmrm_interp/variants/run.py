"""How each variant is run."""

from collections.abc import Iterator, Sequence

from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.interventions import Intervention
from cmrm_interp.tracing import Network
from cmrm_interp.variants.base import Outcome, Wants
from cmrm_interp.variants.behind import Behind
from cmrm_interp.variants.chunks import in_chunks
from cmrm_interp.variants.clean import run_clean
from cmrm_interp.variants.reach import Variant, why_not
from cmrm_interp.variants.whole import run_whole

# Tokens of one pass: more make it no faster, and their scores with each other are wasted.
MOST, MOST_A_ROW = 4096, 512


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
    rows, width = batch.tokens.real.shape
    behind = []
    for number, acting in enumerate(variants):
        if len(variants) == 1 or why_not(network, encoder, batch, acting, wants):
            yield run_whole(network, encoder, batch, number, acting, wants)
        else:
            behind.append(Variant.of(network, batch, number, acting))
    if behind:
        prompt = Behind.of(network, encoder, batch, run_clean(network, batch, wants, cached=True), wants)
        most = max(1, min(MOST_A_ROW, MOST // rows))
        yield from in_chunks(behind, [width - v.start for v in behind], most, prompt.run)
