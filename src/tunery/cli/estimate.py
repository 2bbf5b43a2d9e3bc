"""The verb `estimate`."""

from __future__ import annotations

import click

from tunery.cli.options import OverridableCommand, overrides_of

_DEFAULT_PROJECT = "projects/quickstart"
_EPILOG = """Any key of project.yaml is an option too: --base.quantization none, --data.max_length 4096.
How it is computed, and how accurate it was: docs/guides/memory.md."""


@click.command(cls=OverridableCommand, epilog=_EPILOG)
@click.option("--project", metavar="FOLDER", help=f"Folder with project.yaml; default: {_DEFAULT_PROJECT}.")
@click.option(
    "--base",
    metavar="MODEL",
    help="Hub id, local folder, .gguf file or builtin:tiny; without --project, default settings apply.",
)
@click.option(
    "--memory", metavar="SIZE", help="Memory of a CUDA card, in this machine or not: '24 GiB'. Default: this machine's."
)
@click.pass_context
def estimate(context: click.Context, project: str | None, base: str | None, memory: str | None) -> None:
    """Show how much memory a run needs.

    Lists the memory by part, and the largest micro batch and length that fit. All of it is computed from the base's
    config: no weights are loaded or downloaded.
    """
    from tunery.cli.terminal import Terminal
    from tunery.estimation.command import estimate_run, settings_of
    from tunery.runs.start import check_start

    chosen = project if project is not None or base is not None else _DEFAULT_PROJECT
    with Terminal() as terminal:
        settings = settings_of(chosen, base, overrides_of(context))
        check_start(settings)
        found = estimate_run(settings, memory)
        terminal.show(found.table())
        terminal.step(found.next_step(chosen))
