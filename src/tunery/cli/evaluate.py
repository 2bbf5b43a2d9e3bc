"""`tunery evaluate`."""

from __future__ import annotations

from typing import Any

import click

from tunery.cli.options import KEYS, OverridableCommand, overrides_of, store_options


@click.command(cls=OverridableCommand, epilog=KEYS)
@click.argument("ref")
@click.option(
    "--project", metavar="FOLDER", help="Take the evaluation settings from this project, not the model's own."
)
@store_options
@click.pass_context
def evaluate(context: click.Context, /, ref: str, project: str | None, **options: Any) -> None:
    """Score a model beside its base.

    REF is models:/name@alias, models:/name/3, runs:/id, an adapter folder, a model folder, a hub id, or builtin:tiny.

    A run and its versions are scored on the tasks of their training. For any other model, name the tasks: --project
    projects/quickstart, or --evaluation.tasks '[world_facts]'.
    """
    from tunery.cli.terminal import Terminal
    from tunery.runs.evaluate import evaluate as run

    with Terminal() as terminal:
        run(ref, project, overrides_of(context), terminal, **options)
