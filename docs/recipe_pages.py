"""A page a registered recipe, made of its module: source, method, code that runs, options, numbers on the organism."""

import inspect
import json
import re
import sys
from dataclasses import fields

from recipe_options import found_by_fit, options
from recipe_rows import Rows, kept_rows, on_the_organism, settings_of

from cmrm_interp.evaluation.defences import chosen_settings
from cmrm_interp.recipes import RECIPES, Recipe
from cmrm_interp.recipes.card import Card
from cmrm_interp.recipes.controls import NothingToFit
from cmrm_interp.records import markdown as table

KINDS = {
    "Taking back what an image does": "Edits inside of the model that are about its images.",
    "Steering made for text": "Edits inside of the model that know nothing of images; models of text alone will do.",
    "Around the model": "Prompts, decoding, second answers, another checkpoint: nothing inside is edited.",
    "Controls": "What a defence is compared with. Two more, a random vector and the backbone before vision, are rows of"
    " [the comparison](../defences.md).",
}
"""Kinds of recipes and what they are, in the order of the index."""

# What a page's code says besides the settings that were chosen: to be quick, or to have something to run on.
EXAMPLES = {
    "astra": {"n_images": "2", "steps": "5", "masks": "8"},
    "finetuned": {"source": '"organism"'},
    "refusal-direction": {"max_kl": "2.0", "min_induced": "-1.0"},
    "safedecoding": {"expert": 'ci.load("organism")'},
    "vti": {"copies": "4", "demos": "4"},
}
NOTES = {
    "astra": "The attack is a short one, to be quick: leave out `n_images`, `steps` and `masks` for the defaults.",
    "finetuned": "To have something that runs, `source` is the organism itself, which answers as before.\n"
    "[Fine-tuning](../finetuning.md) makes one; in the folder `finetuned` of the model it is found without `source`.",
    "refusal-direction": "In six layers no direction keeps the paper's limits; these are wider.",
    "safedecoding": "To have something that runs, the expert is the organism itself, which changes nothing.\n"
    "`cmrm finetune MODEL --how expert` makes one: [Fine-tuning](../finetuning.md).",
    "vti": "Few masked copies of few images, to be quick: leave out `copies` and `demos` for the defaults.",
}
CODE = """\
import cmrm_interp as ci
from cmrm_interp.datasets.suites import {imported}

model = ci.load("organism")
inputs = model.prepare(organism_suites("validation", 4)["harmful, real"].prompts)

{made}
before = model.generate(inputs, max_new_tokens=24)
after = recipe.generate(model, inputs, max_new_tokens=24)
for prompt, first, then in zip(inputs.prompts, before, after):
    print(f"{{prompt.text}}\\n    {{first}}\\n    {{then}}")
"""
_WANTS = {"none": "nothing", "any": "any prompts", "both": "harmful and harmless prompts"}
_WIDTH = 100


def pages() -> dict[str, str]:
    """The text of each page, by its place in docs/."""
    return {"recipes/index.md": index()} | {f"recipes/{name}.md": page(name) for name in RECIPES}


def navigation() -> list[dict[str, list[str]]]:
    """The places of the recipes' pages, by kind."""
    return [{kind: [f"recipes/{name}.md" for name in names]} for kind, names in by_kind().items()]


def by_kind() -> dict[str, list[str]]:
    """Names of the recipes by kind."""
    found = {kind: [name for name in sorted(RECIPES) if kind_of(RECIPES[name]) == kind] for kind in KINDS}
    return {kind: names for kind, names in found.items() if names}


def kind_of(recipe: type[Recipe]) -> str:
    """Of what kind a recipe is, by what it does and not by a list: a new one is in its place."""
    images, text, around, controls = KINDS
    if recipe.__module__ == NothingToFit.__module__:
        return controls
    if recipe.interventions is Recipe.interventions:
        return around
    return images if card_of(recipe).needs_images else text


def card_of(recipe: type[Recipe]) -> Card:
    """What a recipe says of itself; all registered ones do."""
    assert recipe.card is not None
    return recipe.card


def index() -> str:
    """The page of all recipes."""
    parts = [
        "# Recipes",
        "Published defences against what images do to alignment, what they are compared with, and one of our own. Each"
        " is a file of its own, and all are fitted, saved, evaluated and compared by the same calls. On the same"
        " prompts: [Every defence side by side](../defences.md). Another: [Adding a recipe](../add-a-recipe.md).",
    ]
    for kind, names in by_kind().items():
        rows = [_in_index(name) for name in names]
        parts += [f"## {kind}", KINDS[kind], table(("recipe", "what it does", "fitted on", "source"), rows)]
    return "\n\n".join(parts) + "\n"


def page(name: str, rows: Rows | None = None) -> str:
    """The page of a recipe.

    Args:
        name: as it is registered.
        rows: of the comparison in long form; None for those that are kept.
    """
    recipe, rows = RECIPES[name], kept_rows() if rows is None else rows
    numbers = on_the_organism(name, rows)
    card = card_of(recipe)
    parts = [f"# {card.title[:1].upper()}{card.title[1:]}", _sentence(card.claim), _facts(recipe)]
    parts += ["## Method", _method(recipe), "## Use it", _code(name, rows), NOTES.get(name, "")]
    parts += ["## Options", options(recipe), found_by_fit(recipe)]
    parts += ["## On the organism", numbers] if numbers else []
    return "\n\n".join(part for part in [*parts, "## See also", _links(recipe)] if part) + "\n"


def _in_index(name: str) -> list[str]:
    card = card_of(RECIPES[name])
    return [f"[{card.title}]({name}.md)", card.claim, _WANTS[card.wants], _source(card)]


def _source(card: Card) -> str:
    number = f"[arXiv {card.arxiv}](https://arxiv.org/abs/{card.arxiv})" if card.arxiv else ""
    return ", ".join(part for part in (card.paper, number) if part) or "this package"


def _facts(recipe: type[Recipe]) -> str:
    card = card_of(recipe)
    facts = {
        "Source": _source(card),
        "How sure": card.sure,
        "Fitted on": _WANTS[card.wants] + (", `ci.Anchors(harmful, harmless)`" if card.wants == "both" else ""),
        "Models": "those that see" if card.needs_images else "those that see, and those of text alone",
        "Strength": f"`{card.strength}`; at 0 the model is as it was" if card.strength else "",
        "By name": f"`cmrm eval --defence {card.name}`, `cmrm compare --recipe {card.name}`",
    }
    return "\n".join(f"- **{title}:** {text}" for title, text in facts.items() if text)


def _method(recipe: type[Recipe]) -> str:
    """The text of the recipe's module; its own where the module has several."""
    several = sum(other.__module__ == recipe.__module__ for other in RECIPES.values()) > 1
    text = inspect.getdoc(recipe if several else sys.modules[recipe.__module__]) or ""
    # A double colon announces code in another markup.
    return re.sub(r"\s?::$", ":", text.partition("\nAttributes:")[0].strip(), flags=re.M)


def _code(name: str, rows: Rows) -> str:
    fits = card_of(RECIPES[name]).wants != "none"
    imported = "organism_anchors, organism_suites" if fits else "organism_suites"
    return f"```python\n{CODE.format(imported=imported, made=_made(name, rows, fits))}```"


def _made(name: str, rows: Rows, fits: bool) -> str:
    said, kind = _said(name, rows), f"recipe = ci.recipes.{RECIPES[name].__name__}"
    made = f"{kind}({', '.join(said)})"
    if len(made) > _WIDTH:
        made = f"{kind}(\n" + "".join(f"    {one},\n" for one in said) + ")"
    if not fits:
        return f"{made}.fit(model)"
    return f"anchors = organism_anchors(40, images=True)\n{made}.fit(model, anchors)"


def _said(name: str, rows: Rows) -> list[str]:
    """Settings of a page's code: words that the organism knows, what was chosen for it, what makes it quick."""
    defaults = {part.name: part.default for part in fields(RECIPES[name])}
    told = {**chosen_settings().get(name, {}), **settings_of(name, rows)}
    said = {key: _literal(value) for key, value in told.items() if value != defaults[key]} | EXAMPLES.get(name, {})
    return [f"{key}={value}" for key, value in said.items()]


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _links(recipe: type[Recipe]) -> str:
    return "\n".join(
        (
            f"- Its module: [`{recipe.__module__}`][{recipe.__module__}]",
            "- All defences on the same prompts: [Every defence side by side](../defences.md)",
            "- To measure it on a model of yours: [Does it work?](../evaluation.md)",
            "- To change it, or to write another: [Adding a recipe](../add-a-recipe.md)",
        )
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
