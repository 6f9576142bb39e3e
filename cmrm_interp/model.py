"""Model: a vision-language model with named hook points; the object that users hold."""

import gc
import inspect
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.capture import Request, capture, stream
from cmrm_interp.closed import Closed
from cmrm_interp.displays import Computed, overview
from cmrm_interp.encoding import Encoder, PaddingSide
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.families.derive import guesses
from cmrm_interp.families.load import Parts, Source, load_parts, short_name
from cmrm_interp.generation import generate_tokens
from cmrm_interp.hooks import HookPoints
from cmrm_interp.inputs import EncodedInputs, Inputs, PromptInputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.logits import logits
from cmrm_interp.positions import Position
from cmrm_interp.prefix import PrefixCache, capture_last
from cmrm_interp.prompts import Images, ImageSource, Prompt, pair
from cmrm_interp.remote import Remote, RemoteNetwork, load_remote
from cmrm_interp.running import BatchSize
from cmrm_interp.selfcheck import selfcheck
from cmrm_interp.steps import Generation, generate_with_capture
from cmrm_interp.streaming import Piece, stream_generate
from cmrm_interp.tracing import Network
from cmrm_interp.vetting import need_images, vet
from cmrm_interp.weights import weights_hash


def load(source: Source, check: bool = True, remote: Remote = False, **hf_kwargs: Any) -> "Model":
    """Load a vision-language model (or the text decoder that one was made from).

    Args:
        source: hub id, local folder, ``"organism"`` (shipped), or ``(hf_model, processor)``; the processor may be
            None, then inputs come from `Model.from_encoding` alone.
        check: try every kind of hook point on a few tokens and an empty image before the model is handed over.
        remote: True to run on NDIF, an address for another server of its kind, ``"local"`` to try that here: the
            weights stay there, and `check` is left out. See `cmrm_interp.remote` for what cannot be asked then.
        **hf_kwargs: as Hugging Face's `from_pretrained` takes them: ``dtype``, ``device_map``, ``revision``,
            ``attn_implementation="eager"`` (needed for attention patterns), ``trust_remote_code``; and
            ``chat_template`` (Jinja).

    Raises:
        ModelError: there is no such model, its hook points cannot be found or fail the check, or its weights
            are pickled.
    """
    if remote is not False:
        return Model(*load_remote(source, remote, **hf_kwargs))
    parts = load_parts(source, **hf_kwargs)
    if not check:
        return Model(parts)
    problems: list[ModelError] = []
    for family in guesses(parts.family, Model(parts).encoder.can_see) if parts.derived else (parts.family,):
        model = Model(replace(parts, family=family))
        try:
            selfcheck(model.network, model.encoder)
        except ModelError as problem:
            problems.append(problem)
        else:
            if parts.derived and family.vision and not family.vision.projector:
                warnings.warn(f"{model.name}: {blind(problems)}", stacklevel=2)
            return model
    raise problems[0]


def blind(problems: Sequence[ModelError]) -> str:
    """Why a derived map has no hook points on the vision side."""
    unknown = "no tower, projector and id of image tokens were found by Hugging Face's conventions"
    reason = str(problems[0]) if problems else unknown
    return f"images can be used, but the vision side has no hook points: {reason}"


def encoder_of(parts: Parts) -> Encoder:
    """How prompts become tensors for a model that need not be wrapped."""
    config = parts.hf.config
    return Encoder(parts.family, parts.processor, parts.tokenizer, _image_token(config), _accepted(parts.hf), config)


class Model:
    """A model with TransformerLens-style hook points.

    Attributes:
        hf: the Hugging Face model.
        processor, tokenizer: its parts, or None.
        name: hub id, path or class name.
        revision: of the hub, or None.
    """

    def __init__(self, parts: Parts, network: Network | None = None) -> None:
        """Wrap loaded parts (use `load`)."""
        self.hf, self.processor, self.tokenizer = parts.hf, parts.processor, parts.tokenizer
        self.name, self.revision, self.family = parts.name, parts.revision, parts.family
        self.network = network or Network(parts.hf, parts.family)
        self.encoder = encoder_of(parts)
        self._prefixes = PrefixCache()
        self._known: tuple[int, str] | None = None

    def __repr__(self) -> str:
        """Name, family and sizes, one line."""
        if isinstance(self.hf, Closed):
            return f"Model({short_name(self.name)!r}; closed)"
        return f"Model({short_name(self.name)!r}; {self.family.name}, {self.n_layers} layers, d_model {self.d_model})"

    def _repr_html_(self) -> str | None:
        return None if isinstance(self.hf, Closed) else overview(self)

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""
        return self._text.num_hidden_layers

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self._text.hidden_size

    @property
    def n_heads(self) -> int:
        """Attention heads of a block."""
        return self._text.num_attention_heads

    @Computed
    def hook_points(self) -> HookPoints:
        """Names of all hook points, in the order of a forward pass with an image; a list, also by pattern."""
        return HookPoints(self.network.points)

    @property
    def fingerprint(self) -> str:
        """Short hash of architecture and weights, by which directions and recipes know their model."""
        if isinstance(self.network, RemoteNetwork):
            return self.network.fingerprint(self.name, self.revision)
        version = self.network.weights_version()
        if self._known is None or self._known[0] != version:
            self._known = (version, weights_hash(self.family.name, self.hf))
        return self._known[1]

    def prepare(
        self,
        prompts: str | Prompt | Sequence[str | Prompt],
        images: ImageSource | Sequence[Images] | None = None,
        system: str | None = None,
        padding_side: PaddingSide = "left",
    ) -> Inputs:
        """Inputs for this model: user texts, put under its chat template, with images or without.

        Args:
            prompts: texts or `Prompt` objects.
            images: one image for all prompts, a list with one, several (``[a, b]``) or None for each, or None. An
                image is a PIL image, the path of a file, or an array of height x width x 3.
            system: system prompt.
            padding_side: where padding goes when rows have different lengths (generation always uses the left).

        Raises:
            InputError: no prompts, or a template without system prompts is given one.
            ImageError: more or fewer images than prompts, or images for a text-only model.
        """
        if padding_side not in ("left", "right"):
            raise InputError(f"padding_side={padding_side!r}: use 'left' or 'right'")
        paired = pair(prompts, images, system)
        self.encoder.check(paired)
        return PromptInputs(self.encoder, paired, padding_side)

    def from_encoding(self, tensors: Mapping[str, Tensor]) -> Inputs:
        """Inputs from what a processor or tokenizer returned, as it is.

        Args:
            tensors: at least ``input_ids`` (``batch pos``); an attention mask of ones is added where there is none.

        Raises:
            InputError: no input_ids, or an attention mask of another shape or with gaps.
        """
        return EncodedInputs.of(self.encoder, tensors)

    def logits(
        self,
        inputs: Inputs,
        interventions: Sequence[Intervention] | Intervention = (),
        positions: str = "last",
        batch_size: BatchSize = "auto",
    ) -> Float[Tensor, "..."]:
        """Logits of the next token.

        Args:
            inputs: from `prepare` or `from_encoding`.
            interventions: applied in the order given at each hook point.
            positions: ``"last"`` for ``batch vocab``, ``"all"`` for ``batch pos vocab``.
            batch_size: rows a batch; ``"auto"`` halves it when memory runs out.

        Raises:
            HookPointError, MismatchError: an intervention that does not fit this model.
        """
        acting = vet(self, inputs, interventions)
        return logits(self.network, self.encoder, inputs, acting, positions, batch_size)

    def generate(
        self,
        inputs: Inputs,
        interventions: Sequence[Intervention] | Intervention = (),
        max_new_tokens: int = 64,
        batch_size: BatchSize = "auto",
        **generation: Any,
    ) -> list[str]:
        """Answers, the new text only; greedy unless ``do_sample=True`` is given.

        Args:
            inputs: from `prepare` or `from_encoding`.
            interventions: applied to the prompt and, where their positions say so, to each new token.
            max_new_tokens: at most so many.
            batch_size: rows a batch.
            **generation: further arguments of Hugging Face's `generate`: ``do_sample``, ``temperature``,
                ``num_beams``, ``stop_strings``, ... With ``num_return_sequences`` the answers of a prompt stand one
                after another. ``seed`` makes sampling repeat: each row draws from a generator of its own, so that
                an answer depends neither on the batches (but for rounding) nor on torch's generator; with a list of
                seeds, one a prompt, each row draws as it would alone.

        Raises:
            ModelError: the model was loaded without a tokenizer (use `generate_tokens`).
            InputError: an argument with which interventions could not be right (speculative decoding, ...).
        """
        if self.tokenizer is None:
            raise ModelError("this model was loaded without a tokenizer: use model.generate_tokens(inputs)")
        new = self.generate_tokens(inputs, interventions, max_new_tokens, batch_size, **generation)
        return self.tokenizer.batch_decode(new, skip_special_tokens=True)

    def generate_tokens(
        self,
        inputs: Inputs,
        interventions: Sequence[Intervention] | Intervention = (),
        max_new_tokens: int = 64,
        batch_size: BatchSize = "auto",
        **generation: Any,
    ) -> Int[Tensor, "batch new"]:
        """Ids of the new tokens, padded on the right; see `generate`."""
        acting = vet(self, inputs, interventions)
        how = {"max_new_tokens": max_new_tokens, **generation}
        return generate_tokens(self.network, self.encoder, inputs, acting, batch_size, **how)

    def stream_generate(
        self,
        inputs: Inputs,
        interventions: Sequence[Intervention] | Intervention = (),
        max_new_tokens: int = 64,
        batch_size: BatchSize = "auto",
        **generation: Any,
    ) -> Iterator[Piece]:
        """Answers piece by piece, as they come: strings with a ``row``; see `generate`.

        A thread generates; leaving the loop ends it after the step that it is in.

        Raises:
            ModelError: the model was loaded without a tokenizer.
            InputError: as `generate`, or beam search.
        """
        acting = vet(self, inputs, interventions)
        how = {"max_new_tokens": max_new_tokens, **generation}
        return stream_generate(self.network, self.encoder, inputs, acting, batch_size, **how)

    def generate_with_capture(
        self,
        inputs: Inputs,
        hooks: str | Sequence[str],
        interventions: Sequence[Intervention] | Intervention = (),
        max_new_tokens: int = 64,
        batch_size: BatchSize = "auto",
        **generation: Any,
    ) -> Generation:
        """Answers, their tokens, and the activations (after interventions) from which each token was chosen.

        Args:
            inputs: from `prepare` or `from_encoding`.
            hooks: names or patterns, outside the vision side.
            interventions: as in `generate`.
            max_new_tokens: at most so many.
            batch_size: rows a batch.
            **generation: as in `generate`.

        Returns:
            ``.texts``, ``.tokens`` and ``.activations``, ``batch step d_model`` with a mask: step 0 is the prompt's
            last token, step ``s`` the new token ``s - 1``.

        Raises:
            HookPointError: a hook point that there is not, or one of the vision side.
            InputError: as `generate`, or beam search.
        """
        request = self._request(inputs, hooks, "last", interventions)
        how = {"max_new_tokens": max_new_tokens, **generation}
        return generate_with_capture(self.network, self.encoder, inputs, request, batch_size, **how)

    def capture(
        self,
        inputs: Inputs,
        hooks: str | Sequence[str],
        positions: Position = "last",
        interventions: Sequence[Intervention] | Intervention = (),
        batch_size: BatchSize = "auto",
        store: str | os.PathLike[str] | None = None,
    ) -> Activations:
        """Activations at hook points; the model is left after the last one that was asked for.

        Args:
            inputs: from `prepare` or `from_encoding`.
            hooks: names or patterns (``"blocks.*.hook_resid_post"``).
            positions: ``"last"``, ``"all"``, ``"image"``, ``"text"``, an int or a slice over real tokens.
            interventions: what is captured is the activation after them.
            batch_size: rows a batch.
            store: a folder; activations are written there batch by batch, and a stopped capture resumes.

        Raises:
            HookPointError: a hook point or position that there is not.
            MismatchError: the folder holds another capture.
        """
        request = self._request(inputs, hooks, positions, interventions)
        return capture(self.network, self.encoder, inputs, request, batch_size, store)

    def stream(
        self,
        inputs: Inputs,
        hooks: str | Sequence[str],
        positions: Position = "last",
        interventions: Sequence[Intervention] | Intervention = (),
        batch_size: BatchSize = "auto",
    ) -> Iterator[Activations]:
        """Activations of one batch after another, as `capture` gives them, in constant memory."""
        request = self._request(inputs, hooks, positions, interventions)
        return stream(self.network, self.encoder, inputs, request, batch_size)

    def capture_last(self, inputs: Inputs, hooks: str | Sequence[str], batch_size: BatchSize = "auto") -> Activations:
        """Activations at the last token of prompts that begin alike, the common beginning run once.

        Equal to ``capture(inputs, hooks)`` up to rounding, and faster where prompts share template and image;
        keys and values of the beginning are kept for the next call.

        Args:
            inputs: from `prepare` or `from_encoding`.
            hooks: names or patterns in the decoder's blocks.
            batch_size: rows a batch.

        Raises:
            HookPointError: a hook point that there is not, or that lies outside the decoder's blocks.
        """
        if isinstance(self.network, RemoteNetwork):
            return self.capture(inputs, hooks, batch_size=batch_size)
        request = self._request(inputs, hooks, "last", ())
        return capture_last(self.network, self.encoder, inputs, request, self._prefixes, batch_size)

    def close(self) -> None:
        """Free the memory of the model; it cannot be used afterwards."""
        closed: Any = Closed(short_name(self.name))
        self.hf = self.network = closed
        self._prefixes = PrefixCache()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def _text(self) -> Any:
        return self.hf.config.get_text_config()

    def _request(self, inputs: Inputs, hooks: str | Sequence[str], positions: Position, interventions: Any) -> Request:
        acting = vet(self, inputs, interventions)
        request = Request.of(self.network, hooks, positions, interventions=acting, model=self.fingerprint)
        need_images(self, inputs, request.hooks)
        return request


def _image_token(config: Any) -> int | None:
    # Older LLaVA configurations call it an index.
    return getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)


def _accepted(hf: Any) -> frozenset[str]:
    # PaliGemma's processor makes labels, with which the model would compute a loss.
    return frozenset(inspect.signature(hf.forward).parameters) - {"labels"}
