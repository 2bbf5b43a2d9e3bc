"""`tunery new`."""

from __future__ import annotations

import click

from tunery.cli.options import KEYS, Name, OverridableCommand, overrides_of


@click.command(cls=OverridableCommand, epilog=KEYS)
@click.argument("name", type=Name())
@click.option("--from", "start", metavar="PROJECT", help="Copy this project: its name in projects/, or its folder.")
@click.option("--data", metavar="ROWS", help="Rows to train on: csv, jsonl, parquet, xlsx, a hub id.")
@click.option("--base", metavar="MODEL", help="Hub id, local folder, .gguf file or builtin:tiny.")
@click.pass_context
def new(context: click.Context, /, name: str, start: str | None, data: str | None, base: str | None) -> None:
    """Make projects/NAME to start from, with every key explained.

    Give --data and --base, whose columns and config are looked at; or --from, alone or with other rows or another base.
    """
    from tunery.cli.terminal import Terminal
    from tunery.runs.new import NewProject
    from tunery.runs.new import new as make

    with Terminal() as terminal:
        make(NewProject(name, start, data, base), overrides_of(context), terminal)
