"""Examples as tensors: the prompt as in generation, then the answer up to the token that ends it.

The prompt is encoded by the model's own encoder (chat template, processor, image tokens), exactly as for
generation, and the answer follows it as the chat template writes it. Labels are the answer's tokens, by position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Int, Tensor
from cmrm_interp.encoding import Encoder
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.finetuning.examples import Example

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """Some examples that share a pass, padded on the right.

    Attributes:
        tensors: what the network is called with.
        labels: the answers' tokens at their own places, `IGNORED` everywhere else.
    """

    tensors: dict[str, Tensor]
    labels: Int[Tensor, "batch pos"]


@dataclass(frozen=True)
class Writer:
    """Writes examples down for one model.

    Attributes:
        encoder: of the model.
        ends: texts of the tokens at which generation stops; the first is written where the template writes none.
    """

    encoder: Encoder
    ends: tuple[str, ...]

    @classmethod
    def of(cls, encoder: Encoder, hf: Any) -> "Writer":
        """For a network, whose generation settings say at which tokens answers end.

        Raises:
            ModelError: the model has no tokenizer, or no token that ends an answer.
        """
        tokenizer = encoder.tokenizer
        if tokenizer is None:
            raise ModelError("this model was loaded without a tokenizer: fine-tuning needs one")
        stops = getattr(hf.generation_config, "eos_token_id", None)
        ids = stops if isinstance(stops, list) else [stops]
        ends = [tokenizer.convert_ids_to_tokens(number) for number in ids if number is not None]
        own = tokenizer.eos_token
        ends = [own, *ends] if own is not None and (own in ends or not ends) else ends
        if not ends:
            raise ModelError("neither tokenizer nor generation settings have a token that ends an answer (eos_token)")
        return cls(encoder, tuple(dict.fromkeys(ends)))

    def answer(self, example: Example) -> str:
        """What follows the prompt's text: the answer as the template writes it, up to the token that ends it."""
        prompt, answer = self.encoder.text(example.prompt), example.answer.strip()
        said = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        whole = self.encoder.render([*example.prompt.turns(), said], to_answer=False)
        rest = whole[len(prompt) :] if whole.startswith(prompt) else ""
        lead, found, after = rest.partition(answer)
        if not found:
            # The template rewrites answers: they are learned as they are, right behind the prompt.
            lead, after = "", ""
        places = [(after.index(end), end) for end in self.ends if end in after]
        end = after[: min(places)[0]] + min(places)[1] if places else self.ends[0]
        return f"{lead}{answer}{end}"

    def passes(self, examples: Sequence[Example]) -> Iterator[Encoded]:
        """Examples in as few passes as the family can mix: one, or one for each number of images.

        Raises:
            InputError: an answer's first token would run into the prompt's last one.
            ModelError: the processor writes something behind the answer.
        """
        if self.encoder.mixed:
            yield self.encode(examples)
            return
        for count in sorted({len(example.prompt.images) for example in examples}):
            yield self.encode([example for example in examples if len(example.prompt.images) == count])

    def encode(self, examples: Sequence[Example]) -> Encoded:
        """Examples in one pass; see `passes`."""
        prompts = [self.encoder.text(example.prompt) for example in examples]
        texts = [text + self.answer(example) for text, example in zip(prompts, examples, strict=True)]
        answers = [self._answer_ids(*pair) for pair in zip(prompts, texts, strict=True)]
        tensors, _ = self.encoder.encode_texts(texts, [example.prompt for example in examples], "right")
        ids, real = tensors["input_ids"], self.encoder.tokens(tensors).real
        labels = torch.full_like(ids, IGNORED)
        for row, answer in enumerate(answers):
            stop = int(real[row].nonzero().max()) + 1
            places = slice(stop - len(answer), stop)
            if ids[row, places].tolist() != answer:
                raise ModelError(
                    f"{type(self.encoder.processor).__name__} writes tokens of its own behind an answer, or makes other"
                    f" tokens of it than its tokenizer: {self.encoder.family.name} cannot be fine-tuned here"
                )
            labels[row, places] = ids[row, places]
        return Encoded(tensors, labels)

    def _answer_ids(self, prompt: str, whole: str) -> list[int]:
        tokenizer, how = self.encoder.tokenizer, self.encoder.special([whole])
        first, both = (tokenizer(text, **how)["input_ids"] for text in (prompt, whole))
        if both[: len(first)] != first:
            raise InputError(
                f"the answer {whole[len(prompt) :][:60]!r} cannot be learned: its first characters and the prompt's"
                " last ones are one token, which is never seen in generation, where the prompt stands alone: change how"
                " it begins"
            )
        return both[len(first) :]
