"""`tunery tune`."""

from __future__ import annotations

import click

from tunery.cli.options import KEYS, load, project_option, store_options
from tunery.cli.overrides import OverridableCommand


@click.command(cls=OverridableCommand, epilog=KEYS)
@project_option
@click.option(
    "--study", metavar="NAME", help="Name of the study; default: the project's. A known name is gone on with."
)
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="Trials in all; default: search.trials.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="For the search in all."
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes on this host.")
@click.option("--storage", metavar="URL", help="Optuna's storage; default: search.storage, else ./optuna.db.")
@store_options
@click.pass_context
def tune(
    context: click.Context,
    project: str,
    study: str | None,
    trials: int | None,
    timeout: float | None,
    workers: int,
    storage: str | None,
    tracking_uri: str | None,
    run_name: str | None,
) -> None:
    """Search the project's settings; the same command again goes on with what is missing."""
    from tunery.cli.study_view import StudyView
    from tunery.ranking.study_tables import finalists_table, study_table
    from tunery.ranking.study_verdict import shown_verdict
    from tunery.search.tune import Options, tune

    loaded = load(project, context)
    options = Options(
        study=study,
        trials=trials,
        timeout_seconds=timeout,
        workers=workers,
        storage=storage,
        tracking_uri=tracking_uri,
        run_name=run_name,
    )
    with StudyView() as view:
        record = tune(loaded, options, view)
        view.show(study_table(record))
        finals = finalists_table(record)
        if finals is not None:
            view.show(finals)
        view.show(shown_verdict(record))
