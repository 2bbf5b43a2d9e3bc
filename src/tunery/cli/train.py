"""`tunery train`."""

from __future__ import annotations

from typing import Any

import click

from tunery.cli.options import KEYS, OverridableCommand, load, project_option, store_options


@click.command(cls=OverridableCommand, epilog=KEYS)
@project_option
@click.option("--resume", metavar="RUN_ID", help="Resume an interrupted run, in the same MLflow run.")
@click.option(
    "--preview", type=click.IntRange(min=1), metavar="N", help="Show N rows as the model sees them, then exit."
)
@store_options
@click.pass_context
def train(context: click.Context, /, project: str, preview: int | None, **options: Any) -> None:
    """Train one adapter, score it beside its base, and register it."""
    from tunery.cli.terminal import Terminal
    from tunery.models.libraries import leave_out_torch
    from tunery.runs.train import preview_rows
    from tunery.runs.train import train as run

    loaded = load(project, context)
    # A tokenizer that is code of its own, or is read from a GGUF file, may need PyTorch.
    if preview is not None and not loaded.base.trust_remote_code and "gguf" not in loaded.base.model.lower():
        leave_out_torch()
    with Terminal() as terminal:
        if preview is not None:
            terminal.show(preview_rows(loaded, preview))
        else:
            run(loaded, terminal, **options)
