"""`tunery promote`, `tunery rollback`, `tunery history`."""

from __future__ import annotations

from typing import Any

import click

from tunery.cli.options import OverridableCommand, overrides_of, store_options, tracking_option

_EPILOG = """The rules are the section `promotion` of project.yaml; any of its keys is an option too:
--promotion.min_gain 0.01. What each gate requires, and how it is tested: docs/guides/promoting.md.
Exit codes: 0 the alias moved, or the candidate is already the champion; 3 a gate did not pass; 2 bad input."""


@click.command(cls=OverridableCommand, epilog=_EPILOG)
@click.argument("ref")
@click.option("--project", metavar="FOLDER", help="Use this project's tasks and rules instead of those as trained.")
@click.option("--dry-run", is_flag=True, help="Judge only; leave no run, alias or version behind.")
@click.option("--force", metavar="REASON", help="Move the alias even if a gate does not pass; the reason is recorded.")
@store_options
@click.pass_context
def promote(context: click.Context, /, ref: str, project: str | None, force: str | None, **options: Any) -> None:
    """Make a model the champion, if it passes every gate.

    REF is models:/name/3, models:/name@alias, runs:/id, a run id, a study's run id, or a study's name: its winner.
    """
    from tunery.cli.terminal import Terminal
    from tunery.promotion.promote import promote as promote_model

    if force is not None and not force.strip():
        raise click.UsageError('--force needs a reason: --force "the champion answers in the wrong language"', context)
    with Terminal() as terminal:
        promote_model(ref, project, overrides_of(context), terminal, force=force, **options)


@click.command()
@click.argument("project")
@click.option("--reason", metavar="TEXT", default="", show_default=False, help="Recorded with the rollback.")
@store_options
def rollback(project: str, **options: Any) -> None:
    """Make the previous champion the champion again; a second rollback undoes the first.

    PROJECT is a project's folder, or a registered model's name.
    """
    from tunery.cli.terminal import Terminal
    from tunery.promotion.rollback import rollback as roll_back

    with Terminal() as terminal:
        roll_back(project, terminal, **options)


@click.command()
@click.argument("project")
@click.option("--refused", is_flag=True, help="Show refused candidates too.")
@tracking_option
def history(project: str, **options: Any) -> None:
    """Show which version was champion when, why, and with what scores.

    PROJECT is a project's folder, or a registered model's name.
    """
    from tunery.cli.terminal import Terminal
    from tunery.promotion.history import history as show_history

    with Terminal() as terminal:
        show_history(project, terminal, **options)
