"""The Inspect model provider: ``cmrm/<source>``, a model of this package under a recipe."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.model import Model as InspectModel
from inspect_ai.solver._task_state import sample_state
from inspect_ai.tool import ToolChoice, ToolInfo

from cmrm_interp.arguments import check_arguments
from cmrm_interp.cluster import LOCAL
from cmrm_interp.errors import InputError
from cmrm_interp.evaluation.answering import Answerer, LocalAnswerer, Said, about_recipe
from cmrm_interp.evaluation.batching import Ask
from cmrm_interp.evaluation.defences import check_defence, defence
from cmrm_interp.evaluation.distant import DistantAnswerer
from cmrm_interp.evaluation.generation import MAX_TOKENS, generation_of, seed_of
from cmrm_interp.evaluation.loaded import Loaded, Once, borrow, enlist, hold
from cmrm_interp.evaluation.messages import prompt_of
from cmrm_interp.families.load import organism_folder
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes import Recipe

ROWS = 32
"""Requests in a batch, where ``batch_size`` does not say."""

LOADING = ("dtype", "device_map", "attn_implementation", "revision", "trust_remote_code", "chat_template")
ARGUMENTS = ("recipe", "anchors", "batch_size", "ray", "ray_workers", *LOADING)


class CmrmAPI(ModelAPI):
    """A model under a recipe, as Inspect asks it. The model is loaded when it is first asked, or by `ready`."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008
        **model_args: Any,
    ) -> None:
        """Check the arguments; nothing is loaded yet.

        Args:
            model_name: hub id, path or ``organism``.
            base_url: of no use here.
            api_key: of no use here.
            config: settings of generation that the run begins with.
            **model_args: ``recipe`` (a spec of a defence, or the path of a saved one), ``anchors`` (see
                `cmrm_interp.evaluation.anchors`), ``batch_size``, ``ray`` (true, or the address of a cluster: workers
                hold the model, see `ci.Workers`; ``ray_workers`` of them), and ``dtype``, ``device_map``,
                ``attn_implementation``, ``revision``, ``trust_remote_code``, ``chat_template`` as `ci.load` takes them.

        Raises:
            InputError: an argument or a setting that there is not, or a recipe that is none.
        """
        super().__init__(model_name, base_url, api_key, [], config)
        if base_url is not None:
            raise InputError(f"base_url={base_url!r}: a model of this package runs here; leave it out")
        check_arguments(f"cmrm/{model_name}", model_args, ARGUMENTS)
        generation_of(config)
        self.rows = _rows(model_args.get("batch_size"))
        self.recipe, self.anchors = _joined(model_args.get("recipe")) or "none", _joined(model_args.get("anchors"))
        check_defence(self.recipe)
        how = {name: model_args[name] for name in LOADING if model_args.get(name) is not None}
        self.cluster = _cluster(model_args.get("ray"), model_args.get("ray_workers"))
        if self.cluster is None:
            self._use(partial(borrow, model_name, how), partial(_local, self.recipe, self.anchors))
        else:
            distant = partial(_distant, self.recipe, self.anchors, self.rows)
            self._use(partial(enlist, model_name, how, *self.cluster), distant)

    def hold(self, model: Model, recipe: Recipe | None) -> None:
        """Answer with a model that is loaded already, under a fitted recipe, in the place of its own."""
        self.close()
        self.cluster = None
        self._use(partial(hold, model), lambda loaded: LocalAnswerer(model, recipe))

    def _use(self, take: Callable[[], Loaded], make: Callable[[Loaded], Answerer]) -> None:
        # Inspect makes providers only to ask for their names, and never closes those: nothing is taken before its use.
        self._loaded = Once(take)
        self._late = _Late(Once(lambda: make(self._loaded())))
        self._closed = False

    def ready(self) -> None:
        """Load the model and fit the recipe now.

        Raises:
            ModelError: the model cannot be loaded.
            MismatchError: the recipe was fitted on another model.
        """
        self._open().queue.between(self._late.made)

    def about(self) -> Mapping[str, Any]:
        """What decides the answers, as JSON; loads the model where that was not done yet."""
        return self._open().queue.between(self._late.about)

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Answer a conversation.

        Raises:
            InputError: tools, or messages or settings that cannot be used.
        """
        if tools:
            raise InputError(f"the task brings tools ({tools[0].name}, ...): models here call none")
        generation, prompt = generation_of(config), prompt_of(input)
        asks = [self._ask(prompt, generation, config.seed, choice) for choice in range(config.num_choices or 1)]
        said = await self._open().queue.answers(asks)
        return self._output(said, generation.get("stop_strings", ()))

    @property
    def answerer(self) -> Answerer:
        """Who answers, made when it is first asked for: ask for it in the thread that runs the model."""
        return self._late.made()

    async def ask(self, other: Answerer, prompt: Prompt) -> Said:
        """What another answerer, which uses the same model, says of a prompt; it waits in the same queue."""
        (said,) = await self._open().queue.answers([Ask(other, prompt, {}, self.rows)])
        return said

    def max_tokens(self) -> int | None:
        """New tokens of an answer where a task does not say."""
        return MAX_TOKENS

    def max_connections(self) -> int:
        """A batch for each model that answers, and one that gathers meanwhile."""
        models = 1 if self.cluster is None else self._open().model().n
        return (models + 1) * self.rows

    def connection_key(self) -> str:
        """The model, whose queue its defences share."""
        return self.model_name

    def collapse_user_messages(self) -> bool:
        """Chat templates want the roles in turn."""
        return True

    def collapse_assistant_messages(self) -> bool:
        """Chat templates want the roles in turn."""
        return True

    def close(self) -> None:
        """Done with the model: it is freed when no other defence holds it."""
        self._closed = True
        for loaded in self._loaded.taken():
            loaded.give_back()
        self._late.close()

    def _open(self) -> Loaded:
        if self._closed:
            raise InputError(f"cmrm/{self.model_name} was closed: make it again")
        return self._loaded()

    def _ask(self, prompt: Prompt, generation: Mapping[str, Any], seed: int | None, choice: int) -> Ask:
        own = seed_of(seed, prompt, _epoch(), choice) if seed is not None and generation.get("do_sample") else None
        return Ask(self._late, prompt, generation, self.rows, own)

    def _output(self, said: Sequence[Said], ends: Sequence[str]) -> ModelOutput:
        new, asked = sum(one.tokens for one in said), said[0].prompt_tokens
        numbers = {name: sum(one.numbers[name] for one in said) for name in said[0].numbers}
        return ModelOutput(
            model=self.model_name,
            choices=[self._choice(one, ends) for one in said],
            usage=ModelUsage(input_tokens=asked, output_tokens=new, total_tokens=asked + new),
            metadata={**numbers, "tokens": new},
        )

    def _choice(self, said: Said, ends: Sequence[str]) -> ChatCompletionChoice:
        cuts = [at for end in ends if (at := said.text.find(end)) >= 0]
        message = ChatMessageAssistant(
            content=said.text[: min(cuts)] if cuts else said.text, model=self.model_name, source="generate"
        )
        return ChatCompletionChoice(message=message, stop_reason="stop" if said.stopped or cuts else "max_tokens")


def held(
    model: Model, recipe: Recipe | None = None, folder: Path | None = None, batch_size: int | None = None
) -> InspectModel:
    """An Inspect model of a loaded model and a fitted recipe; the model stays open when this one is closed.

    Args:
        model: that answers.
        recipe: under which; None for the bare model.
        folder: where the recipe is written, so that the log names it and a run goes on in another process; None, or
            a recipe that cannot be saved, and the log names only its kind, which ``eval-retry`` then refuses.
        batch_size: most requests in a batch.

    Raises:
        InputError: the recipe is not fitted.
        MismatchError: it was fitted on another model.
    """
    if recipe is not None:
        recipe.check_model(model)
    sized: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
    # Where the package lies is nobody's business in a log, and another place elsewhere.
    source = "organism" if Path(model.name) == organism_folder() else model.name
    made = get_model(f"cmrm/{source}", memoize=False, **sized)
    assert isinstance(made.api, CmrmAPI)
    made.api.hold(model, recipe)
    made.model_args = {**sized, "recipe": _written(recipe, folder)}
    return made


class _Late(Answerer):
    """An answerer that is made when it is first asked, in the thread that runs the model."""

    def __init__(self, made: Once[Answerer]) -> None:
        self.made = made

    def answer(self, prompts: Sequence[Prompt], generation: Mapping[str, Any]) -> list[Said]:
        """What the answerer says."""
        return self.made().answer(prompts, generation)

    def about(self) -> Mapping[str, Any]:
        """What there is to know of the answerer."""
        return self.made().about()

    def close(self) -> None:
        """Close it, if it was ever made."""
        for answerer in self.made.taken():
            answerer.close()


def _local(recipe: str, anchors: str | None, loaded: Loaded) -> Answerer:
    model = loaded.model()
    return LocalAnswerer(model, defence(recipe, model, anchors))


def _distant(recipe: str, anchors: str | None, rows: int, loaded: Loaded) -> Answerer:
    return DistantAnswerer(loaded.model(), recipe, anchors, rows)


def _cluster(ray: Any, workers: Any) -> tuple[str | None, int | None] | None:
    """Address of a cluster (None: this machine) and number of workers, where any are asked for."""
    if workers is not None and (not ray or isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise InputError(f"ray_workers={workers!r}: give a positive number, together with ray=true or ray=ADDRESS")
    if not ray:
        return None
    if ray is not True and not isinstance(ray, str):
        raise InputError(f"ray={ray!r}: give true for this machine, or the address of a cluster")
    return (None if ray is True or ray == LOCAL else ray), workers


def _joined(value: str | Sequence[Any] | None) -> str | None:
    # The command line of Inspect takes what has a comma for a list.
    return value if value is None or isinstance(value, str) else ",".join(map(str, value))


def _rows(asked: Any) -> int:
    if asked in (None, "auto"):
        return ROWS
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise InputError(f"batch_size={asked!r}: give a positive number of requests, or 'auto' for {ROWS}")
    return asked


def _written(recipe: Recipe | None, folder: Path | None) -> str:
    if recipe is None:
        return "none"
    name = type(recipe).__name__
    if folder is None or not recipe.savable:
        return f"{name} (not saved)"
    described = json.dumps(about_recipe(recipe), sort_keys=True)
    path = folder / f"{name}-{hashlib.sha256(described.encode()).hexdigest()[:12]}.safetensors"
    if path.exists():
        return str(path)
    try:
        recipe.save(path)
    except InputError:  # it holds what no file can
        return f"{name} (not saved)"
    return str(path)


def _epoch() -> int:
    state = sample_state()
    return 1 if state is None else state.epoch
