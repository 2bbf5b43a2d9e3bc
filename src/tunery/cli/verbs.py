"""A verb per entry point. Each reads its options, calls the pipeline, and turns errors into exit codes.

Nothing heavy is imported before a verb runs: `tunery --help` must answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from tunery import __version__
from tunery.cli.chat import chat
from tunery.cli.compare import compare
from tunery.cli.estimate import estimate
from tunery.cli.export import export
from tunery.cli.import_ import import_
from tunery.cli.options import KEYS, OverridableCommand, load, overrides_of, project_option, store_options
from tunery.cli.promote import history, promote, rollback
from tunery.cli.tune import tune
from tunery.errors import TuneryError
from tunery.openmp import wait_briefly


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunery")
def commands() -> None:
    """Fine-tune language models, score them against their base, and keep the adapter that earned it."""


@commands.command(cls=OverridableCommand, epilog=KEYS)
@project_option
@click.option("--resume", metavar="RUN_ID", help="Go on with a run that was interrupted, in the same MLflow run.")
@click.option(
    "--preview", type=click.IntRange(min=1), metavar="N", help="Show N rows as the model sees them, and stop."
)
@store_options
@click.pass_context
def train(
    context: click.Context,
    project: str,
    resume: str | None,
    preview: int | None,
    tracking_uri: str | None,
    run_name: str | None,
) -> None:
    """Train one adapter, score it beside its base, and register it."""
    from tunery.cli.terminal import Terminal
    from tunery.runs.train import preview_rows, train_run

    loaded = load(project, context)
    with Terminal() as terminal:
        if preview is not None:
            terminal.show(preview_rows(loaded, preview))
            return
        train_run(loaded, terminal, tracking_uri=tracking_uri, run_name=run_name, resume=resume)


@commands.command(cls=OverridableCommand, epilog=KEYS)
@click.argument("ref")
@click.option(
    "--project", metavar="FOLDER", help="Take evaluation settings from this project instead of the model's own."
)
@store_options
@click.pass_context
def evaluate(
    context: click.Context, ref: str, project: str | None, tracking_uri: str | None, run_name: str | None
) -> None:
    """Score a model beside its base.

    REF is models:/name@alias, models:/name/3, runs:/id, an adapter folder, a model folder, a hub id, or builtin:tiny.

    A run and its versions are asked what they were asked in training. For anything else name the questions: --project
    projects/quickstart, or --evaluation.tasks '[world_facts]'.
    """
    from tunery.cli.terminal import Terminal
    from tunery.runs.evaluate import evaluate_reference

    with Terminal() as terminal:
        evaluate_reference(ref, project, overrides_of(context), terminal, tracking_uri=tracking_uri, run_name=run_name)


commands.add_command(tune)
commands.add_command(compare)
commands.add_command(import_)
commands.add_command(estimate)
commands.add_command(chat)
commands.add_command(export)
commands.add_command(promote)
commands.add_command(rollback)
commands.add_command(history)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb; a TuneryError becomes one message on stderr and its exit code, without a traceback."""
    wait_briefly()
    try:
        commands.main(arguments, prog_name="tunery", standalone_mode=False)
    except click.exceptions.Abort:
        _end("interrupted", 1)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except TuneryError as error:
        _end(str(error), error.exit_code)


def _end(message: str, code: int) -> None:
    from tunery.tracking.redact import redact

    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(redact(message), err=True)
    sys.exit(code)
