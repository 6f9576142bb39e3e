"""Variants run behind a prompt that they share: its keys and values once, their own last tokens as one sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache

from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.hooks import pos_axis
from cmrm_interp.interventions import Intervention, Step
from cmrm_interp.prefix import positions_of, shown
from cmrm_interp.running import to_device
from cmrm_interp.tracing import Network, Visit
from cmrm_interp.variants.base import Outcome, Wants
from cmrm_interp.variants.clean import Clean
from cmrm_interp.variants.greedy import Greedy
from cmrm_interp.variants.reach import Variant
from cmrm_interp.variants.tails import Tails


@dataclass(frozen=True)
class Behind:
    """A batch whose prompt was run, and what is asked of variants.

    Attributes:
        network: the model.
        batch: rows, padded on the left.
        clean: of the batch, with keys and values.
        wants: what is asked of each variant.
        positions: ids of the prompt's positions.
        greedy: chooses new tokens, if they are wanted.
    """

    network: Network
    batch: Batch
    clean: Clean
    wants: Wants
    positions: Int[Tensor, "..."]
    greedy: Greedy | None

    @classmethod
    def of(cls, network: Network, encoder: Encoder, batch: Batch, clean: Clean, wants: Wants) -> "Behind":
        """Get ready for any number of variants."""
        greedy = Greedy.of(network, encoder, batch, wants.new_tokens) if wants.new_tokens else None
        return cls(network, batch, clean, wants, positions_of(network, batch), greedy)

    def run(self, variants: Sequence[Variant]) -> list[Outcome]:
        """Outcomes of some variants, together in one sequence."""
        cache = shown(self.clean.cache, keeping=self.wants.new_tokens > 1)  # type: ignore[arg-type]
        # Interventions may remember something within a run, which is no other variant's.
        batch = self.batch
        crowd = _Crowd(self, variants, cache, [Step(batch.tokens, batch.rows, batch.has_image) for _ in variants])
        tails = Tails.of([variant.start for variant in variants], batch.tokens.real)
        found: dict[str, list[Tensor]] = {}
        logits = crowd.forward(tails, batch.tensors["input_ids"][:, tails.columns], 0, found)
        answers = crowd.answers(tails, logits) if self.greedy else [None] * len(variants)
        return [
            Outcome(
                variant.number,
                "prefix",
                self._logits(tails, k, logits),
                {name: found[name][k] for name in self.wants.activations},
                answers[k],
            )
            for k, variant in enumerate(variants)
        ]

    def _logits(self, tails: Tails, k: int, logits: Tensor | None) -> Tensor | None:
        if self.wants.logits is None or logits is None:
            return None
        own = tails.part(logits, "unembed.hook_out", k)
        if self.wants.logits == "last":
            return own[:, -1].cpu()
        return torch.cat([self.clean.logits[:, : tails.starts[k]], own], 1).cpu()


@dataclass(frozen=True)
class _Crowd:
    """Some variants behind one prompt."""

    prompt: Behind
    variants: Sequence[Variant]
    cache: Cache
    steps: Sequence[Step]

    def forward(
        self, tails: Tails, ids: Int[Tensor, "batch query"], number: int, found: dict[str, list[Tensor]] | None = None
    ) -> Float[Tensor, "batch row vocab"] | None:
        """One pass over tokens of the variants; logits of each one's last token, or of all if these are wanted."""
        network, wants = self.prompt.network, self.prompt.wants
        every = wants.logits == "all" and number == 0
        given = {"input_ids": ids, "position_ids": self._positions(tails.columns)}
        tensors = to_device(network, given | self._of_columns(tails.columns))
        mask = _masks(network, tails)
        visits = self._visits(tails, number, found)
        result: list[Tensor] = []

        @torch.no_grad()
        def _call() -> None:
            kept = 0 if every else tails.last.to(network.hf.device)
            how: dict[str, Any] = {"past_key_values": self.cache, "use_cache": True, "logits_to_keep": kept}
            result.append(network.model(tensors)(**tensors, attention_mask=mask, **how).logits)

        # With its images, so that what is only there with an image is found.
        network.run(
            _call, self.prompt.batch.tensors | tensors, visits, stop=wants.logits is None and not wants.new_tokens
        )
        return result[0] if result else None

    def answers(self, tails: Tails, logits: Tensor | None) -> list[Int[Tensor, "batch new"]]:
        """Greedy answers of all variants, from the logits of the prompt's last tokens on."""
        greedy: Any = self.prompt.greedy
        assert logits is not None
        logits = torch.stack([tails.part(logits, "unembed.hook_out", k)[:, -1] for k in tails.places])
        search = greedy.start(self.prompt.batch.tensors["input_ids"], len(self.variants))
        search.choose(logits)
        for number in range(1, greedy.n):
            going = search.going
            if not going:
                break
            tails = tails.next(going)
            logits = self.forward(tails, search.tokens(going).T, number)
            search.choose(logits.movedim(1, 0))  # type: ignore[union-attr]
        return search.answers()

    def _positions(self, columns: Int[Tensor, " query"]) -> Int[Tensor, "..."]:
        known = self.prompt.positions
        at = columns.clamp(max=known.shape[-1] - 1)
        return known[..., at] + (columns - at).to(known.device)

    def _of_columns(self, columns: Int[Tensor, " query"]) -> dict[str, Tensor]:
        # What each token of a prompt sees of its images (Mllama); new tokens see what the last one does.
        seen = self.prompt.batch.tensors.get("cross_attention_mask")
        return {} if seen is None else {"cross_attention_mask": seen[:, columns.clamp(max=seen.shape[1] - 1)]}

    def _visits(self, tails: Tails, number: int, found: dict[str, list[Tensor]] | None) -> dict[str, Visit]:
        acting: dict[str, list[tuple[int, Step, Sequence[Intervention]]]] = {}
        for k in tails.places:
            step = self.steps[k].at(number)
            for name, interventions in self.variants[k].by_hook.items():
                acting.setdefault(name, []).append((k, step, interventions))
        visits: dict[str, Visit] = {name: _Edits(name, tails, each) for name, each in acting.items()}
        if found is not None:
            visits |= {name: _Keep(name, tails, found, visits.get(name)) for name in self.prompt.wants.activations}
        return visits


@dataclass(frozen=True)
class _Edits:
    """Edits of all variants at one hook point, each on its own tokens."""

    hook: str
    tails: Tails
    acting: Sequence[tuple[int, Step, Sequence[Intervention]]]

    def __call__(self, activation: Tensor, number: int) -> Tensor:
        out = activation
        for k, step, interventions in self.acting:
            old = new = self.tails.part(activation, self.hook, k)
            for intervention in interventions:
                new = intervention.apply(new, self.hook, step)
            if new is not old:
                out = activation.clone() if out is activation else out
                self.tails.put(out, self.hook, k, new)
        return out


@dataclass(frozen=True)
class _Keep:
    """What is wanted of the last token of all variants at one hook point, after their edits."""

    hook: str
    tails: Tails
    found: dict[str, list[Tensor]]
    edits: Visit | None

    def __call__(self, activation: Tensor, number: int) -> Tensor:
        new = activation if self.edits is None else self.edits(activation, number)
        parts = [self.tails.part(new, self.hook, k) for k in self.tails.places]  # type: ignore[arg-type]
        ends = [part.select(pos_axis(self.hook), -1) for part in parts]
        self.found[self.hook] = [end.detach().to("cpu", copy=True) for end in ends]
        return new  # type: ignore[return-value]


def _masks(network: Network, tails: Tails) -> Tensor | dict[str, Tensor]:
    """One mask for all layers, or one for each kind of layer."""
    config, dtype, device = network.hf.config.get_text_config(), network.hf.dtype, network.hf.device
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if window is None or window > int(tails.column.max()):
        return tails.mask(dtype).to(device)
    if not kinds:
        return tails.mask(dtype, window).to(device)
    return {kind: tails.mask(dtype, window if kind == "sliding_attention" else None).to(device) for kind in set(kinds)}
