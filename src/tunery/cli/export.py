"""`tunery export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tunery.cli.options import device_option, tracking_option


@click.command()
@click.argument("ref")
@click.option(
    "--to",
    required=True,
    type=click.Choice(["adapter", "merged", "hub", "space", "dataset"]),
    help="adapter: for PEFT and vLLM; merged: whole model in 16 bits; hub: adapter, sent to --repo; space: an app; "
    "dataset: a project's rows as they are learned.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="A new or empty folder; optional with --to hub."
)
@click.option(
    "--repo", metavar="OWNER/NAME", help="Upload to this repository on the Hub, private by default; needs HF_TOKEN."
)
@click.option("--public", is_flag=True, help="Make a new repository public.")
@click.option(
    "--license", metavar="NAME", help="Of the rows that --to dataset writes, such as cc-by-4.0; required there."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in --out.")
@click.option(
    "--max-distance",
    type=click.FloatRange(min=0, min_open=True),
    default=0.15,
    show_default=True,
    metavar="NATS",
    help="Largest mean difference of a token's log-likelihood between merged and trained model.",
)
@device_option
@tracking_option
def export(ref: str, tracking_uri: str | None, **options: Any) -> None:
    """Write a trained model, or a project's rows, as a folder for other tools, with a card.

    REF is models:/name@alias, models:/name/3, models:/<id> or runs:/<id>; with --to dataset, the folder of a project.
    """
    from tunery.cli.terminal import Terminal
    from tunery.serving.export.export import ExportRequest, export

    with Terminal() as terminal:
        export(ref, ExportRequest(**options), terminal, tracking_uri=tracking_uri)
