"""`tunery doctor`."""

from __future__ import annotations

import click

from tunery.cli.options import tracking_option


@click.command()
@click.option("--mend", is_flag=True, help="Close the runs that stand RUNNING though their process has ended.")
@tracking_option
def doctor(mend: bool, tracking_uri: str | None) -> None:
    """Show device, versions, extras, store and network, and runs that were left RUNNING.

    A run counts as left if its process ran on this host and has ended, or if it has shown no sign for a day.
    """
    from tunery.cli.terminal import Terminal
    from tunery.runs.doctor import doctor as examine

    with Terminal() as terminal:
        examine(terminal, mend=mend, tracking_uri=tracking_uri)
