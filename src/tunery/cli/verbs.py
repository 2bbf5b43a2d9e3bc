"""All verbs, one an entry point of MLproject; errors become exit codes here.

Nothing heavy is imported before a verb runs: `tunery --help` must answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from tunery import __version__
from tunery.cli.chat import chat
from tunery.cli.compare import compare
from tunery.cli.doctor import doctor
from tunery.cli.estimate import estimate
from tunery.cli.evaluate import evaluate
from tunery.cli.export import export
from tunery.cli.import_ import import_
from tunery.cli.new import new
from tunery.cli.promote import history, promote, rollback
from tunery.cli.train import train
from tunery.cli.tune import tune
from tunery.cli.ui import ui
from tunery.errors import TuneryError
from tunery.openmp import wait_briefly


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="tunery")
def commands() -> None:
    """Fine-tune language models, score them against their base, and keep the adapter that earned it."""


for verb in (new, train, tune, evaluate, compare, promote, rollback, history):
    commands.add_command(verb)
for verb in (export, chat, estimate, import_, ui, doctor):
    commands.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb; a TuneryError becomes one message on stderr and its exit code, without a traceback."""
    wait_briefly()
    try:
        commands.main(arguments, prog_name="tunery", standalone_mode=False)
    except click.exceptions.Abort as abort:
        # click takes every EOFError for the end of its input; PyTorch raises one for an empty file.
        cut = isinstance(abort.__cause__, EOFError)
        _end(f"a file ended before it was read ({abort.__cause__})" if cut else "interrupted", 1)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except TuneryError as error:
        # Notes: how a stopped run is resumed, and what could not be sent to a store that was away.
        _end("\n".join([str(error), *getattr(error, "__notes__", ())]), error.exit_code)


def _end(message: str, code: int) -> None:
    from tunery.reporting.text import visible
    from tunery.tracking.redact import redact

    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(visible(redact(message)), err=True)
    sys.exit(code)
