"""Text as it is generated: a thread generates, an iterator hands its pieces over."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from cmrm_interp.axes import Bool, Int, Tensor
from cmrm_interp.decoding import Settings
from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.generation import generation_edits, run_batch, settings_of
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.remote import RemoteNetwork
from cmrm_interp.running import FIRST_TRY, BatchSize
from cmrm_interp.tracing import Network

# A tokenizer writes this for a character of which only some bytes are there yet.
_UNFINISHED = "\ufffd"


class Piece(str):
    """A piece of an answer: a string that knows which answer it belongs to.

    Attributes:
        row: index of the answer, as in what `Model.generate` returns.
    """

    row: int

    def __new__(cls, text: str, row: int) -> "Piece":
        """A piece of the answer to one row."""
        piece = super().__new__(cls, text)
        piece.row = row
        return piece


def stream_generate(
    network: Network,
    encoder: Encoder,
    inputs: Inputs,
    interventions: Sequence[Intervention] = (),
    batch_size: BatchSize = "auto",
    **how: Any,
) -> Iterator[Piece]:
    """Pieces of the answers as they come; those of a row, joined, are what `generate` returns.

    Args:
        network: the model.
        encoder: of the model.
        inputs: what to go on from.
        interventions: checked ones.
        batch_size: rows a batch; batches come one after another. ``"auto"`` takes 64 and does not halve them.
        **how: as `generate_tokens` takes it.

    Raises:
        ModelError: the model has no tokenizer, or runs elsewhere.
        InputError: beam search, whose answers are only known at its end; or as `generate_tokens`.
    """
    if encoder.tokenizer is None:
        raise ModelError("this model was loaded without a tokenizer: use model.generate_tokens(inputs)")
    if isinstance(network, RemoteNetwork):
        raise ModelError("a model that runs elsewhere sends its answers back at the end: use model.generate")
    settings = settings_of(network, encoder, how)
    if settings.beams > 1:
        raise InputError(f"num_beams={settings.beams} knows its answers only at the end: stream without beams")
    answers = _Answers(encoder.tokenizer)

    batches = inputs.left_padded().batches(FIRST_TRY if batch_size == "auto" else batch_size)

    def _run() -> None:
        for batch in batches:
            answers.begin(batch, settings)
            visits = generation_edits(network, encoder, interventions, batch, settings)
            run_batch(network, batch, visits, settings, answers.listen)
            answers.finish()
            if answers.stopped.is_set():
                return

    return _pieces(answers, _run)


class _Answers:
    """Tokens of the rows of a batch, and what of their text was handed over."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.pieces: SimpleQueue[Piece | None] = SimpleQueue()
        self.stopped = threading.Event()
        self.first, self.tokens, self.sent = 0, [], []

    def begin(self, batch: Batch, settings: Settings) -> None:
        """Make ready for the rows of a batch."""
        n = len(batch.rows) * settings.copies
        self.first, self.tokens, self.sent = int(batch.rows[0]) * settings.copies, [[] for _ in range(n)], [""] * n

    def listen(self, tokens: Int[Tensor, " batch"], alive: Bool[Tensor, " batch"]) -> bool:
        """Take the tokens of a step, hand over what has become text; returns whether anybody still wants it."""
        for row, (token, going) in enumerate(zip(tokens.tolist(), alive.tolist(), strict=True)):
            if going:
                self.tokens[row].append(token)
                self._send(row, ended=False)
        return not self.stopped.is_set()

    def finish(self) -> None:
        """Hand over what was held back."""
        for row in range(len(self.tokens)):
            self._send(row, ended=True)

    def _send(self, row: int, ended: bool) -> None:
        text, sent = self.tokenizer.decode(self.tokens[row], skip_special_tokens=True), self.sent[row]
        # A tokenizer may join what it writes to what came before, and the next token settles it.
        if not ended and (text.endswith(_UNFINISHED) or not text.startswith(sent)):
            return
        if len(text) > len(sent):
            self.pieces.put(Piece(text[len(sent) :], self.first + row))
            self.sent[row] = text


def _pieces(answers: _Answers, run: Callable[[], None]) -> Iterator[Piece]:
    # torch's grad mode and nnsight's greenlets belong to a thread, so that a generation cannot pause in the caller's.
    with ThreadPoolExecutor(1, "cmrm_interp") as pool:
        running = pool.submit(run)
        running.add_done_callback(lambda _: answers.pieces.put(None))
        try:
            while (piece := answers.pieces.get()) is not None:
                yield piece
        finally:
            answers.stopped.set()
        running.result()
