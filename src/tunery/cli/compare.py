"""`tunery compare`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tunery.cli.options import tracking_option

_LIST = "; several with commas, or the option again"
_Words = tuple[str, ...]


def _words(context: click.Context, option: click.Parameter, values: _Words) -> _Words:
    """`mlflow run -P run=a,b` passes an option once: commas separate."""
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())


def _given(context: click.Context, option: click.Parameter, values: _Words) -> _Words:
    """Values that are not empty, as `mlflow run` passes them. Only the store knows whether a comma separates names."""
    return tuple(value for value in values if value.strip())


def _pairs(context: click.Context, option: click.Parameter, values: _Words) -> tuple[tuple[str, str], ...]:
    split = [value.partition("=") for value in values if value]
    for name, equals, _ in split:
        if not equals or not name:
            raise click.UsageError(f"--tag {name} must be NAME=VALUE, such as --tag tunery.method=qlora.")
    return tuple((name, value) for name, _, value in split)


def _several(option: str, field: str, read: Callable[..., Any], metavar: str, text: str) -> Callable[..., Any]:
    return click.option(option, field, multiple=True, callback=read, metavar=metavar, help=text)


@click.command()
@click.argument("refs", nargs=-1, metavar="[REF]...")
@_several("--project", "projects", _given, "NAME|FOLDER", f"Runs of a project{_LIST}.")
@_several("--experiment", "experiments", _given, "NAME", "Runs in an MLflow experiment.")
@_several("--study", "studies", _given, "NAME|RUN_ID", "Trials of a study.")
@_several("--tag", "tags", _pairs, "NAME=VALUE", "Runs with an MLflow tag; several must all agree.")
@click.option(
    "--filter", default="", show_default=False, metavar="TEXT", help="MLflow's own filter: 'metrics.score > 0.8'."
)
@_several("--kind", "kinds", _words, "KIND", "Default: train, evaluation and import; of a study: trial.")
@click.option("--imported", is_flag=True, help="Add everything that tunery import brought in.")
@_several("--run", "runs", _words, "REF", "As REF, for mlflow run: -P run=ID,ID.")
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    default=0.95,
    help="Of every interval, and of every 'better' over all pairs together.",
)
@click.option("--seed", type=int, default=0, help="Of the permutation tests.")
@click.option(
    "--tested",
    type=click.IntRange(min=2),
    default=50,
    help="How many of the best configurations are tested against one another, item by item if answers are kept.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV, LaTeX, Markdown, HTML and plots."
)
@click.option(
    "--answers",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.xlsx",
    help="Workbook with all answers side by side: a sheet a task, a row a prompt.",
)
@click.option(
    "--any-template", is_flag=True, help="Rank scores together that were asked through different chat templates."
)
@click.option("--record/--no-record", default=True, help="Keep the comparison as a run in MLflow.")
@tracking_option
@click.option("--run-name", metavar="NAME", help="Name of the comparison in MLflow.")
def compare(
    refs: _Words,
    runs: _Words,
    confidence: float,
    seed: int,
    tested: int,
    out: Path | None,
    answers: Path | None,
    any_template: bool,
    record: bool,
    tracking_uri: str | None,
    run_name: str | None,
    **narrowing: Any,
) -> None:
    """Rank runs across datasets and tasks, each beside its base, and test which differences are more than chance.

    REF is a run id, runs:/id, models:/name/3 or name@alias, and is added to what the options find. Several values of
    one option add runs, different options narrow the choice. Without any, all finished runs of the store are compared:
    the latest of each configuration and seed.
    """
    from tunery.cli.terminal import Terminal
    from tunery.comparison.compare import CompareOptions, compare_runs
    from tunery.comparison.selection import selected

    selection = selected((*refs, *runs), **narrowing)
    options = CompareOptions(
        confidence,
        seed,
        tested,
        out=out,
        answers=answers,
        record=record,
        run_name=run_name,
        any_template=any_template,
    )
    with Terminal() as terminal:
        compare_runs(selection, options, terminal, tracking_uri=tracking_uri)
