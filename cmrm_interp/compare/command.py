"""The command ``cmrm compare``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cmrm_interp.specs import Spec

# What the command needs is imported inside of it: `cmrm --help` must not wait for a model's libraries.


def command(  # noqa: PLR0913 - the options of a command
    model: Annotated[list[str], typer.Option(help="[LABEL=]hub id, folder or 'organism'; several times for several")],
    out: Annotated[Path, typer.Option(help="folder; the same command goes on with it, another one adds to it")],
    recipe: Annotated[
        list[str] | None, typer.Option(help="[LABEL=]NAME:key=value,...; several times; without it all (cmrm recipes)")
    ] = None,
    skip: Annotated[list[str] | None, typer.Option(help="name of a recipe, or label, that is left out")] = None,
    validation: Annotated[
        list[str] | None, typer.Option(help="suite that settings are chosen on; the organism has its own")
    ] = None,
    suite: Annotated[
        list[str] | None, typer.Option(help="suite that numbers are reported on; the organism has its own")
    ] = None,
    anchors: Annotated[str | None, typer.Option(help="prompts to fit on: classes:harmful=FILE,harmless=FILE")] = None,
    n: Annotated[int | None, typer.Option(min=2, help="test prompts a suite of the organism; else 300")] = None,
    over_refusal: Annotated[float, typer.Option(help="most added refusals of benign requests")] = 0.05,
    utility: Annotated[float, typer.Option(help="most lost right answers")] = 0.05,
    split: Annotated[str | None, typer.Option(help="what validation suites are, in words, that say no split")] = None,
    judge: Annotated[str | None, typer.Option(help="of the answers; form for the organism")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="length of the answers")] = None,
    page: Annotated[Path | None, typer.Option(help="page of the documentation to write all of OUT into")] = None,
) -> None:
    """Every defence side by side: same anchors, chosen under one budget, same prompts, one table."""
    from cmrm_interp.choose.budget import Budget
    from cmrm_interp.compare.comparing import compare
    from cmrm_interp.compare.comparison import Comparison
    from cmrm_interp.compare.contenders import contenders, distinct, of_spec
    from cmrm_interp.compare.page import write_page
    from cmrm_interp.harness import need_inspect

    need_inspect()
    models = distinct_models(model)
    rows = distinct([of_spec(one) for one in recipe]) if recipe else contenders(skip or ())
    how: dict[str, Any] = {"n": n, "budget": Budget(over_refusal, utility), "split": split}
    how |= _suites("validation", validation) | _suites("test", suite) | _judge(judge) | _anchors(anchors)
    if max_new_tokens is not None:
        how["max_new_tokens"] = max_new_tokens
    found = compare(models, rows, out=out, **how)
    whole = Comparison.of(out)
    typer.echo(found.table().T.to_string())
    if whole.ran:
        whole.save(out / "report")
    if page is not None:
        write_page(whole, page)
    typer.echo(f"{found}; tables, tests and figure of all that is in {out}: {out / 'report'}")


def distinct_models(specs: list[str]) -> dict[str, str]:
    """Models by label; a folder's last part where none was given.

    Raises:
        InputError: two with one label.
    """
    from cmrm_interp.errors import InputError

    found: dict[str, str] = {}
    for text in specs:
        spec = Spec.parse(text)
        label = Path(spec.name).name if spec.label in (text.strip(), spec.name) else spec.label
        if label in found:
            raise InputError(f"two of the models are called {label!r}: give each a label, LABEL={spec}")
        found[label] = spec.name
    return found


def _suites(name: str, specs: list[str] | None) -> dict[str, Any]:
    from cmrm_interp.errors import InputError
    from cmrm_interp.evaluation.tasks import suite_of

    if not specs:
        return {}
    found: dict[str, Any] = {}
    for text in specs:
        suite, spec = suite_of(text), Spec.parse(text)
        label = suite.name if spec.label == text.strip() else spec.label
        if label in found:
            raise InputError(f"two of the suites are called {label!r}: give each a label, LABEL={spec}")
        found[label] = suite
    return {name: found}


def _judge(spec: str | None) -> dict[str, Any]:
    from cmrm_interp.judges import judge

    return {} if spec is None else {"judge": judge(spec)}


def _anchors(source: str | None) -> dict[str, Any]:
    from cmrm_interp.evaluation.anchors import anchors_of

    return {} if source is None else {"anchors": anchors_of(source)}
