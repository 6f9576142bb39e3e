"""How each variant is run."""

from collections.abc import Iterator, Sequence

from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.interventions import Intervention
from cmrm_interp.remote import RemoteNetwork
from cmrm_interp.tracing import Network
from cmrm_interp.variants.base import Outcome, Wants
from cmrm_interp.variants.behind import Behind
from cmrm_interp.variants.chunks import in_chunks
from cmrm_interp.variants.clean import run_clean
from cmrm_interp.variants.reach import Variant, obstacle
from cmrm_interp.variants.resumed import run_resumed
from cmrm_interp.variants.route import Map, Route
from cmrm_interp.variants.whole import run_whole

# Tokens of one pass: more make it no faster, and their scores with each other are wasted.
MOST, MOST_A_ROW = 4096, 512


def run_variants(
    network: Network, encoder: Encoder, batch: Batch, variants: Sequence[Sequence[Intervention]], wants: Wants
) -> Iterator[Outcome]:
    """Every variant on one batch, as each is done; their order may be another.

    What variants have in common is computed once: the prompt for those that change its last tokens alone, and for
    the others what comes before the first module that they change. All outcomes are those of a run of their own, up
    to rounding.

    Args:
        network: the model.
        encoder: of the model.
        batch: rows, padded on the left.
        variants: lists of checked interventions; an empty one is the clean model.
        wants: what is asked of each.

    Raises:
        InputError: a batch that is not padded on the left.
        HookPointError: a hook point or position that there is not, or activations of the vision side.
    """
    for name in wants.activations:
        if network.points[name].is_vision:
            raise HookPointError(f"{name!r} holds pieces of images, and variants are read at the last token")
    if not bool(batch.tokens.real[:, -1].all()):
        raise InputError("variants run on prompts that are padded on the left: use inputs.left_padded()")
    behind, routes, whole = _sorted(network, batch, variants, wants)
    if behind or routes:
        modules = tuple(dict.fromkeys(path for route in routes for path in route.needs))
        clean = run_clean(network, batch, wants, cached=bool(behind), modules=modules)
        if behind:
            rows, width = batch.tokens.real.shape
            most = max(1, min(MOST_A_ROW, MOST // rows))
            prompt = Behind.of(network, encoder, batch, clean, wants)
            yield from in_chunks(behind, [width - v.start for v in behind], most, prompt.run)
        for route in routes:
            yield run_resumed(network, encoder, batch, route, clean, wants)
    for number in whole:
        yield run_whole(network, encoder, batch, number, variants[number], wants)


def _sorted(
    network: Network, batch: Batch, variants: Sequence[Sequence[Intervention]], wants: Wants
) -> tuple[list[Variant], list[Route], list[int]]:
    """Variants behind the prompt, those that are resumed, and numbers of those that are run whole."""
    if len(variants) == 1 or isinstance(network, RemoteNetwork):
        return [], [], list(range(len(variants)))
    known = [Variant.of(network, batch, number, acting) for number, acting in enumerate(variants)]
    behind: list[Variant] = []
    others: list[Variant] = []
    for variant in known:
        (others if obstacle(network, batch, variant, wants) else behind).append(variant)
    numbers = [variant.number for variant in others]
    if wants.new_tokens:
        return behind, [], numbers
    modules = Map(network, batch)
    routes = [modules.route(variant) for variant in others]
    # The clean pass costs as much as a variant run whole.
    if not behind and sum(route.saved for route in routes) < 1:
        return behind, [], numbers
    resumed = [route for route in routes if route.saved]
    return behind, resumed, [route.variant.number for route in routes if not route.saved]
