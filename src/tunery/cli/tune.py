"""`tunery tune`."""

from __future__ import annotations

from typing import Any

import click

from tunery.cli.options import KEYS, Finite, Name, OverridableCommand, load, project_option, store_options


@click.command(cls=OverridableCommand, epilog=KEYS)
@project_option
@click.option(
    "--study",
    type=Name(),
    metavar="NAME",
    help="Name of the study; default: the project's name. An existing study is resumed.",
)
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="Trials in total; default: search.trials.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=Finite(min=0, min_open=True),
    metavar="SECONDS",
    help="Time limit for the whole search.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, metavar="N", help="Processes on this host, or Ray actors."
)
@click.option("--executor", type=click.Choice(["local", "ray"]), default="local", help="Where the workers run.")
@click.option(
    "--address", metavar="ADDRESS", help="Address of the Ray cluster: auto (the default), HOST:PORT or ray://HOST:PORT."
)
@click.option(
    "--gpus-per-worker",
    type=Finite(min=0, max=1),
    metavar="N",
    help="GPUs for each Ray worker: 1, a fraction, or 0; default: 1 if the cluster has any.",
)
@click.option("--storage", metavar="URL", help="Optuna's storage; default: search.storage, else ./optuna.db.")
@store_options
@click.pass_context
def tune(context: click.Context, /, project: str, **options: Any) -> None:
    """Search a project's settings. Run the same command again to resume the study."""
    from rich.markdown import Markdown

    from tunery.cli.study_view import StudyView
    from tunery.search.report.tables import finalists_table, study_table
    from tunery.search.report.verdict import study_verdict
    from tunery.search.session import StudyOptions
    from tunery.search.tune import closing_lines, tune

    chosen = StudyOptions(**options)
    if chosen.executor == "local" and (chosen.address is not None or chosen.gpus_per_worker is not None):
        raise click.UsageError("--address and --gpus-per-worker are for --executor ray.", context)
    loaded = load(project, context)
    with StudyView() as view:
        record = tune(loaded, chosen, view)
        for shown in (study_table(record), finalists_table(record), Markdown(study_verdict(record))):
            if shown is not None:
                view.show(shown)
        for line in closing_lines(record, chosen):
            view.step(line)
