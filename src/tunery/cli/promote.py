"""`tunery promote`, `tunery rollback`, `tunery history`."""

from __future__ import annotations

import click

from tunery.cli.options import OverridableCommand, overrides_of, store_options, tracking_option

_EPILOG = """The rules are the section `promotion` of project.yaml; any of its keys is an option too:
--promotion.min_gain 0.01. What each gate asks, and how it is tested: docs/guides/promoting.md.
Exit codes: 0 the alias moved, or the candidate is the champion already; 3 a gate refused; 2 bad input."""


@click.command(cls=OverridableCommand, epilog=_EPILOG)
@click.argument("ref")
@click.option("--project", metavar="FOLDER", help="Judge by this project's rules instead of those it was trained with.")
@click.option("--dry-run", is_flag=True, help="Judge, and leave nothing behind: no run, no alias, no version.")
@click.option("--force", metavar="REASON", help="Move the alias whatever the gates say; the reason is recorded.")
@store_options
@click.pass_context
def promote(
    context: click.Context,
    ref: str,
    project: str | None,
    dry_run: bool,
    force: str | None,
    tracking_uri: str | None,
    run_name: str | None,
) -> None:
    """Make a model the champion, if it passes every gate.

    REF is models:/name/3, models:/name@alias, runs:/id, a run id, a study's run id, or a study's name: its winner.
    """
    from tunery.cli.terminal import Terminal
    from tunery.promotion.promote import promote as judge

    if force is not None and not force.strip():
        raise click.UsageError('--force needs a reason: --force "the champion answers in the wrong language"', context)
    with Terminal() as terminal:
        judge(
            ref,
            project,
            overrides_of(context),
            terminal,
            dry_run=dry_run,
            force=force,
            tracking_uri=tracking_uri,
            run_name=run_name,
        )


@click.command()
@click.argument("project")
@click.option("--reason", metavar="TEXT", default="", help="Why; recorded.")
@store_options
def rollback(project: str, reason: str, tracking_uri: str | None, run_name: str | None) -> None:
    """Give the alias champion back to the version before; a second rollback undoes the first.

    PROJECT is a project's folder, or a registered model's name.
    """
    from tunery.cli.terminal import Terminal
    from tunery.promotion.rollback import rollback as restore

    with Terminal() as terminal:
        restore(project, terminal, reason=reason, tracking_uri=tracking_uri, run_name=run_name)


@click.command()
@click.argument("project")
@click.option("--refused", is_flag=True, help="Show refused candidates too.")
@tracking_option
def history(project: str, refused: bool, tracking_uri: str | None) -> None:
    """Say who was champion when, why, and with what scores.

    PROJECT is a project's folder, or a registered model's name.
    """
    from tunery.cli.terminal import Terminal
    from tunery.promotion.history import history as tell

    with Terminal() as terminal:
        tell(project, terminal, refused=refused, tracking_uri=tracking_uri)
