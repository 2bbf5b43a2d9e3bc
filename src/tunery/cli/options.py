"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tunery.cli.overrides import overrides_of

if TYPE_CHECKING:
    from tunery.config.project import Project

KEYS = """Any key of project.yaml is an option too: --adapter.rank 32, --data.train.0.source rows.csv.
All keys with their defaults: docs/config.md; for editors: projects/project.schema.json."""

project_option = click.option(
    "--project", default="projects/quickstart", show_default=True, metavar="FOLDER", help="Folder with project.yaml."
)


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the run goes, and what it is called there."""
    options = [
        click.option(
            "--tracking-uri", metavar="URI", help="MLflow store; default: MLFLOW_TRACKING_URI, else ./mlflow.db."
        ),
        click.option("--run-name", metavar="NAME", help="Name of the run in MLflow."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def load(project: str, context: click.Context) -> Project:
    """The project with the command line's overrides.

    Raises:
        ConfigError: With every fault.
    """
    from tunery.config.load import load_project

    return load_project(project, overrides_of(context))
