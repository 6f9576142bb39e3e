"""The function `bake`: refuse, plan, change weights, measure, write."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.bake.building import Recast, changed_weights, check_weights, rebuilt, tied_head
from cmrm_interp.bake.edits import Move, Op, edits_of
from cmrm_interp.bake.flags import Flag, flags_of
from cmrm_interp.bake.folder import check_free, write
from cmrm_interp.bake.measuring import Agreement, Factors, agreement, check, factors_of, probes
from cmrm_interp.bake.plan import Plan, plan_of
from cmrm_interp.bake.refusals import need_held
from cmrm_interp.bake.writers import Place, Writer, places_of
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Add, Intervention, ProjectOut, Subtract
from cmrm_interp.model import Model, load
from cmrm_interp.vetting import vet

_STREAM = (".hook_resid_pre", ".hook_resid_mid", ".hook_resid_post")


@dataclass(frozen=True)
class Baked:
    """A model whose weights hold interventions.

    Attributes:
        model: the new model; ``.hf`` is an ordinary Hugging Face model.
        notes: what changed besides the values of weights, in words.
        agreement: how far it is from the live interventions, as measured on a few prompts.
        interventions: what it holds, described.
        source: name, revision and fingerprint of the model that it was made from.
    """

    model: Model
    notes: tuple[str, ...]
    agreement: Agreement
    interventions: tuple[Mapping[str, Any], ...]
    source: Mapping[str, str | None]

    @property
    def hf(self) -> Any:
        """The Hugging Face model."""
        return self.model.hf

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write checkpoint, processor and ``bake.json`` to a new folder, whole or not at all.

        Args:
            folder: where; `cmrm_interp.load`, transformers and servers read it.

        Raises:
            StoreError: there is something already, or it cannot be written.
        """
        about = {
            "interventions": list(self.interventions),
            "source": dict(self.source),
            "notes": list(self.notes),
            "agreement": vars(self.agreement),
        }
        return write(self.model, Path(folder), str(self.source["name"]), about)

    def __repr__(self) -> str:
        """Model, largest difference, notes."""
        found = f"Baked({self.model!r}; logits within {self.agreement.logits:.1e} of the live interventions"
        return "; ".join([found, *self.notes]) + ")"


def bake(
    model: Model,
    interventions: Sequence[Intervention] | Intervention,
    folder: str | os.PathLike[str] | None = None,
    inputs: Inputs | None = None,
) -> Baked:
    """A copy of a model whose weights hold interventions, equal to running them live; the given one is unchanged.

    Held, where the architecture can: `Add` and `Subtract` of one vector a hook point at every token; `ProjectOut`
    of one direction or subspace from the whole stream (see `whole_stream`); `ProjectOut` of any strength and
    `Ablate` (zero, mean) of what single layers add (``hook_attn_out``, ``hook_mlp_out``). Arithmetic is in double
    precision and rounded once to the checkpoint's dtype. The result is compared with the live run on a few prompts.

    Args:
        model: the model, its weights not quantised.
        interventions: one or several, with ``positions="all"``.
        folder: where to write the checkpoint, too; None writes nothing.
        inputs: compared on these as well as on random words and an image; of use where there is no processor.

    Raises:
        InputError: an intervention that weights cannot hold, or none; the message says what could be held.
        ModelError: this architecture cannot hold it (no bias, a norm in between, a gate), or weights are quantised.
        MismatchError: directions of another model.
        StoreError: the folder cannot be written.
    """
    if folder is not None:
        check_free(Path(folder), "baked")
    check_weights(model.hf)
    is_several = isinstance(interventions, Sequence)
    given = tuple(interventions) if is_several else (interventions,)
    if not given:
        raise InputError("nothing to bake: give at least one intervention")
    edits, places = edits_of(given, model.hook_points), places_of(model.network)
    tried = [*probes(model), *([] if inputs is None else [inputs])]
    vet(model, tried[-1], given)
    factors = _factors(model, edits, places, tried)
    plan, flags = _planned(model, edits, places, factors)
    _need_image(plan, places, tried)
    baked = _copied(model, plan, flags, factors)
    found = agreement(model, baked[0], given, tried)
    check(found, model.hf.dtype, model.name)
    notes = (*baked[1], *_notes(model, found))
    source = {"name": model.name, "revision": model.revision, "fingerprint": model.fingerprint}
    out = Baked(baked[0], notes, found, tuple(_described(i, model.hook_points) for i in given), source)
    if folder is not None:
        out.save(folder)
    return out


def whole_stream(model: Model, vector: Float[Tensor, "*k d_model"] | Directions) -> Directions:
    """One direction or subspace at every point of the residual stream: what `ProjectOut` has to be given to be baked.

    Args:
        model: the model.
        vector: the direction, the rows that span the subspace, or Directions of a single hook point.

    Raises:
        InputError: Directions of several hook points.
    """
    made_on: str | None = model.fingerprint
    if isinstance(vector, Directions):
        if len(vector) != 1:
            raise InputError(
                f"the whole stream is rid of one direction, and these are of {len(vector)} hook points: choose one,"
                f" directions[{next(iter(vector))!r}] for example"
            )
        made_on, vector = vector.model, next(iter(vector.tensors.values()))
    names = [n for n in model.hook_points if n.startswith("blocks.") and n.endswith(_STREAM)]
    rows = "one" if vector.ndim == 1 else "subspace"
    return Directions(dict.fromkeys(names, vector), rows, made_on, "one direction, the whole stream")


def acting(model: Model, directions: Directions, how: str, alpha: float = 1.0) -> Intervention:
    """The intervention that a word means, at every token.

    Args:
        model: what it is for.
        directions: at the hook points to act on; for ``"project-out"`` one is enough for the whole stream.
        how: ``"project-out"``, ``"add"`` or ``"subtract"``.
        alpha: strength.

    Raises:
        InputError: another word.
    """
    if how == "project-out":
        is_one = len(directions) == 1 and alpha == 1
        return ProjectOut(whole_stream(model, directions) if is_one else directions, alpha, positions="all")
    if how not in ("add", "subtract"):
        raise InputError(f"no way {how!r} of baking directions: use project-out, add or subtract")
    return (Add if how == "add" else Subtract)(directions, alpha, positions="all")


def _factors(
    model: Model, edits: Mapping[str, Sequence[Op]], places: Sequence[Place], inputs: Sequence[Inputs]
) -> Factors:
    """Factors on the way to the stream, where something is added at its beginning."""
    entry = ("hook_embed", "blocks.0.hook_resid_pre", "projector.hook_out")
    is_needed = any(isinstance(op, Move) for point in entry for op in edits.get(point, ()))
    # Learned positions hold a constant for every token, and nothing multiplies them.
    if not is_needed or model.family.pos_embed is not None:
        return Factors()
    return factors_of(model, inputs, any(writer.points and writer.constant for writer in _of_images(places)))


def _of_images(places: Sequence[Place]) -> list[Writer]:
    return [writer for writer in places[0].writers if writer.entry == "image"]


def _need_image(plan: Plan, places: Sequence[Place], tried: Sequence[Inputs]) -> None:
    """Nothing is done to image features that is not seen to be right."""
    changed = [writer.what for writer in _of_images(places) if plan.of(writer)]
    if changed and not any(inputs.has_images for inputs in tried):
        raise InputError(
            f"this changes {changed[0]}, too, and there is no processor with a chat template to try it on an image:"
            " give bake(..., inputs=) with one (model.from_encoding(...))"
        )


def _planned(
    model: Model, edits: Mapping[str, Sequence[Op]], places: Sequence[Place], factors: Factors
) -> tuple[Plan, dict[str, Flag]]:
    """The plan, and the entries of the configuration that could give parameters which it needs."""
    of = {"hook_embed": factors.text / factors.embedded, "projector.hook_out": factors.image}
    in_stream = {point: [_scaled(op, of.get(point, 1.0)) for op in ops] for point, ops in edits.items()}
    has_constant = any(op.constant is not None for ops in edits.values() for op in ops)
    have, flags = model.hf.state_dict().keys(), flags_of(model.hf) if has_constant else {}

    def holds(writer: Writer) -> bool:
        return writer.constant in have or writer.constant in flags

    plan = plan_of(in_stream, places, holds)
    need_held(plan, places, holds, type(model.hf).__name__)
    return plan, {name: flag for name, flag in flags.items() if name in plan.constants}


def _scaled(op: Op, factor: float) -> Op:
    return Move(op.vector * factor) if isinstance(op, Move) else op


def _copied(model: Model, plan: Plan, flags: Mapping[str, Flag], factors: Factors) -> tuple[Model, list[str]]:
    hf, family = model.hf, model.family
    changed = changed_weights(hf, plan, {"text": factors.text, "image": factors.image})
    head, embed = tied_head(hf, family), f"{family.at(family.embed)}.weight"
    recast = Recast(tuple(dict.fromkeys(flags.values())), head if embed in changed else None)
    notes = [
        f"the configuration has {flag}: all layers of this kind have biases now, zeros where nothing was added."
        " transformers and vLLM's Llama read it; if a server's own class gives no bias to output projections"
        " (vLLM's Qwen3), serve the Hugging Face class (vllm serve --model-impl transformers)"
        for flag in recast.flags
    ]
    if recast.untied is not None:
        changed[recast.untied] = hf.state_dict()[recast.untied].detach().clone()
        notes.append("the head was tied to the embedding and has its own weights now (tie_word_embeddings=False)")
    new = rebuilt(hf, recast, changed)
    new.name_or_path = ""
    # It is compared with the live run instead of being checked by itself.
    return load((new, model.processor or model.tokenizer), check=False), notes


def _notes(model: Model, found: Agreement) -> list[str]:
    notes = []
    if model.family.vision is not None and not found.with_image:
        notes.append("nothing was compared on images: no processor with a chat template, and no inputs= with one")
    if model.hf.dtype not in (torch.float32, torch.float64):
        notes.append(f"rounded once to {model.hf.dtype}: equal to the live run only as far as that")
    return notes


def _described(intervention: Intervention, names: Sequence[str]) -> dict[str, Any]:
    about = {name: value for name, value in vars(intervention).items() if isinstance(value, str | float | int)}
    directions = getattr(intervention, "directions", None)
    if isinstance(directions, Directions):
        about["method"] = directions.method
    return {"kind": type(intervention).__name__, **about, "hooks": intervention.targets(names)}
